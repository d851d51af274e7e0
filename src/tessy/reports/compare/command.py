"""``tessy compare``: compare runs in tables on the terminal and in an HTML page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from tessy.config.data import CompareConfig
from tessy.core.errors import ConfigError
from tessy.core.formatting import counted
from tessy.core.records import Failure, Key, Trajectory
from tessy.reports.compare.evaluations import compare_evaluations
from tessy.reports.compare.figures import RunFigures, collect_figures
from tessy.reports.compare.methods import describe, models, short_names
from tessy.reports.compare.output import link_to, print_sections
from tessy.reports.compare.page import Example, build_page
from tessy.reports.compare.sections import ComparedRun, sections
from tessy.storage import jsonl
from tessy.storage.atomic import new_file
from tessy.storage.run_config import AnyRowKind
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import (
    EVALUATIONS,
    TRAJECTORIES,
    iter_failures,
    iter_superseded,
    iter_trajectories,
    kind_of,
    read_config,
)


def compare(config: CompareConfig, console: Console | None = None) -> int:
    """Print the tables, write the page, and return the exit code.

    Evaluations are compared by their scores (:mod:`tessy.reports.compare.evaluations`).

    Raises:
        InputError: A run is invalid or given twice, or ``out`` cannot be used.
        StorageError: The page could not be written.
    """
    console = console or Console()
    if _check(config) == EVALUATIONS:
        return compare_evaluations(config, console)
    runs = [
        _read(path, name, config.out)
        for path, name in zip(config.runs, short_names(config.runs), strict=True)
    ]
    tables = sections(runs)
    overview = describe_problems([run.figures for run in runs])
    overview = " ".join((overview, *describe_equal(runs)))
    page = build_page(runs, tables, _examples(runs, config.examples), overview=overview)
    with new_file(config.out, "choose another --out") as path:
        path.write_bytes(page.encode("utf-8"))
    print_sections(console, [run.name for run in runs], tables, overview)
    console.print(f"\nTables with explanations and examples: {config.out}", soft_wrap=True)
    return 0


def _check(config: CompareConfig) -> AnyRowKind:
    """Refuse unusable options; return the kind of rows of all runs."""
    if not config.runs:
        raise ConfigError("no runs to compare: pass at least one run directory")
    if config.out.is_dir():
        raise ConfigError(
            f"--out {config.out} is a directory; pass a file name such as compare.html"
        )
    kinds = {path: kind_of(path) for path in config.runs}
    kind = EVALUATIONS if EVALUATIONS in kinds.values() else TRAJECTORIES
    if other_kinds := [path for path, found in kinds.items() if found != kind]:
        evaluated = next(path for path, found in kinds.items() if found == EVALUATIONS)
        read_config(other_kinds[0])
        raise ConfigError(
            f"{evaluated} is a run of `tessy evaluate`, but {other_kinds[0]} is a run of samples; "
            "compare them separately"
        )
    if config.json_file is not None and kind != EVALUATIONS:
        raise ConfigError("json_file: only evaluations are compared in JSON; leave the option out")
    seen: dict[Path, Path] = {}
    for path in config.runs:
        read_config(path, kind)
        if (other := seen.setdefault(path.resolve(), path)) is not path:
            raise ConfigError(f"{path} and {other} are the same run; pass each run once")
    return kind


def _read(directory: Path, name: str, page: Path) -> ComparedRun:
    document = read_config(directory)
    figures = collect_figures(
        iter_trajectories(directory), iter_failures(directory), iter_superseded(directory)
    )
    method = describe(document, figures.strategies, figures.answer_by)
    link = link_to(RunPaths(directory).report, page)
    return ComparedRun(name, directory, method, models(document), figures, link)


def describe_problems(figures: Sequence[RunFigures]) -> str:
    """Return a sentence about the number of runs and their problems."""
    problems = [run.shown.keys() for run in figures]
    digests = set().union(*problems)
    shared = digests.intersection(*problems)
    if len(problems) == 1:
        return f"1 run over {counted(len(digests), 'problem')}."
    if shared == digests:
        return f"{len(problems)} runs over the same {counted(len(digests), 'problem')}."
    return (
        f"{len(problems)} runs over {counted(len(digests), 'problem')}, of which {len(shared):,} "
        f"{'is' if len(shared) == 1 else 'are'} in all runs. Differences between the runs may be "
        "due to the problems."
    )


def describe_equal(runs: Sequence[ComparedRun]) -> list[str]:
    """Return a sentence for each run with the same texts as an earlier one."""
    remarks = []
    for number, run in enumerate(runs):
        for earlier in runs[:number]:
            texts, others = run.figures.texts, earlier.figures.texts
            shared = texts.keys() & others.keys()
            if shared and all(texts[key] == others[key] for key in shared):
                remarks.append(
                    f"{run.name} and {earlier.name} have the same thinking and answer in all "
                    f"{counted(len(shared), 'sample')} that both finished: their methods made no "
                    "difference here."
                )
                break
    return remarks


def _examples(runs: Sequence[ComparedRun], count: int) -> list[Example]:
    chosen = choose_problems([run.figures.shown for run in runs], count)
    columns = []
    for run in runs:
        keys = {problem: run.figures.shown.get(problem) for problem in chosen}
        rows = fetch_rows(run.directory, {key for key in keys.values() if key is not None})
        columns.append([key and rows.get(key) for key in keys.values()])
    return list(zip(*columns, strict=True))


def choose_problems(shown: Sequence[Mapping[str, Key]], count: int) -> list[str]:
    """Return the digests of at most ``count`` problems that most runs have, spread evenly.

    ``shown`` is, for each run, the key of the row to show by digest of the problem. The result is
    in the order of the problems' ids.
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


def fetch_rows(run: Path, keys: Collection[Key]) -> dict[Key, Trajectory | Failure]:
    """Return the rows of ``keys``; a trajectory has precedence over a failure."""
    paths = RunPaths(run)
    rows_by_key: dict[Key, Trajectory | Failure] = {}
    sources: list[tuple[type[Failure] | type[Trajectory], list[Path]]] = [
        (Failure, paths.failure_files()),
        (Trajectory, paths.row_files()),
    ]
    for row_type, files in sources:
        places = jsonl.last_rows(files, jsonl.row_key)
        selected = {key: places[key] for key in keys if key in places}
        if selected:
            rows = jsonl.rows_at(row_type, files, selected, jsonl.row_key)
            rows_by_key.update((row.key, row) for row in rows)
    return rows_by_key
