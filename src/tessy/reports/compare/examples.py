"""Which problems are shown with every run's text, and the rows of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tessy.core.records import Failure, Key, Trajectory
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths


def choose(shown: Sequence[Mapping[str, Key]], count: int) -> list[str]:
    """Return problems to show: those that most runs have, spread over the list.

    Args:
        shown: Of each run, its problems and the row that stands for each.
        count: How many.

    Returns:
        Digests of problems, in the order of their ids; fewer where there are no more.
    """
    runs = Counter(question for run in shown for question in run)
    ids = {question: key[0] for run in reversed(shown) for question, key in run.items()}
    # Files are in the order of completion, which differs from one making of a run to the next.
    order = sorted(runs, key=lambda question: (_natural(ids[question]), question))
    chosen: set[str] = set()
    for level in sorted(set(runs.values()), reverse=True):
        chosen.update(_spread([q for q in order if runs[q] == level], count - len(chosen)))
    return [question for question in order if question in chosen]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``q2`` before ``q10``."""
    parts = re.split(r"([0-9]+)", name)
    return [
        (int(part), "") if n % 2 and len(part) < 20 else (-1, part) for n, part in enumerate(parts)
    ]


def _spread(questions: Sequence[str], count: int) -> list[str]:
    """``count`` of ``questions``, at even distances; all if there are no more."""
    if len(questions) <= count:
        return list(questions)
    return [questions[(2 * n + 1) * len(questions) // (2 * count)] for n in range(count)]


def fetch(run: Path, keys: Collection[Key]) -> dict[Key, Trajectory | Failure]:
    """Return the rows of some keys; the trajectory where a key has one.

    Raises:
        InputError: A row cannot be read.
    """
    paths = RunPaths(run)
    found: dict[Key, Trajectory | Failure] = {}
    kinds: list[tuple[type[Failure] | type[Trajectory], list[Path]]] = [
        (Failure, paths.failure_files()),
        (Trajectory, paths.row_files()),
    ]
    for kind, files in kinds:
        places = jsonl.last_rows(files, jsonl.row_key)
        wanted = {key: places[key] for key in keys if key in places}
        if wanted:
            rows = jsonl.rows_at(kind, files, wanted, jsonl.row_key)
            found.update((row.key, row) for row in rows)
    return found
