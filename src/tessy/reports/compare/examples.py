"""Selection of example problems, and their rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tessy.core.records import Failure, Key, Trajectory
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths


def choose(shown: Sequence[Mapping[str, Key]], count: int) -> list[str]:
    """Choose problems that most runs have, spread evenly.

    Args:
        shown: For each run, the key of the row to show, by digest of the problem.
        count: Maximum number of problems.

    Returns:
        Digests of problems, in the order of their ids.
    """
    runs = Counter(problem for run in shown for problem in run)
    ids = {problem: key[0] for run in reversed(shown) for problem, key in run.items()}
    # Rows are in the order of completion, which is not reproducible.
    order = sorted(runs, key=lambda problem: (_natural(ids[problem]), problem))
    chosen: set[str] = set()
    for level in sorted(set(runs.values()), reverse=True):
        chosen.update(_spread([p for p in order if runs[p] == level], count - len(chosen)))
    return [problem for problem in order if problem in chosen]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key with numbers by value: ``q2`` before ``q10``."""
    parts = re.split(r"([0-9]+)", name)
    return [
        (int(part), "") if n % 2 and len(part) < 20 else (-1, part) for n, part in enumerate(parts)
    ]


def _spread(problems: Sequence[str], count: int) -> list[str]:
    """Return at most ``count`` of ``problems``, at even distances."""
    if len(problems) <= count:
        return list(problems)
    return [problems[(2 * n + 1) * len(problems) // (2 * count)] for n in range(count)]


def fetch(run: Path, keys: Collection[Key]) -> dict[Key, Trajectory | Failure]:
    """Return the rows of ``keys``; a trajectory has precedence over a failure.

    Raises:
        InputError: A row is invalid.
    """
    paths = RunPaths(run)
    found: dict[Key, Trajectory | Failure] = {}
    sources: list[tuple[type[Failure] | type[Trajectory], list[Path]]] = [
        (Failure, paths.failure_files()),
        (Trajectory, paths.row_files()),
    ]
    for row_type, files in sources:
        places = jsonl.last_rows(files, jsonl.row_key)
        selected = {key: places[key] for key in keys if key in places}
        if selected:
            rows = jsonl.rows_at(row_type, files, selected, jsonl.row_key)
            found.update((row.key, row) for row in rows)
    return found
