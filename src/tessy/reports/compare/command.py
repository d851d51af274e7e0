"""``tessy compare``: compare runs in tables on the terminal and in an HTML page."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from tessy.config.data import CompareConfig
from tessy.core.errors import ConfigError
from tessy.core.formatting import counted
from tessy.core.records import Evaluation, Failure, Key, Trajectory
from tessy.reports.compare.evaluated_run import read_evaluation
from tessy.reports.compare.evaluations import (
    check_comparable,
    describe_evaluations,
    differences,
    evaluation_sections,
    example_keys,
    to_json,
)
from tessy.reports.compare.figures import RunFigures, collect_figures
from tessy.reports.compare.methods import describe, models, short_names
from tessy.reports.compare.page import Example, build_page
from tessy.reports.compare.sections import Cell, ComparedRun, Section, sections
from tessy.runtime.terminal import FiguresTable, visible
from tessy.storage import jsonl
from tessy.storage.atomic import new_file
from tessy.storage.run_config import RowKind
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import (
    EVALUATIONS,
    TRAJECTORIES,
    is_evaluation,
    iter_failures,
    iter_superseded,
    iter_trajectories,
    read_config,
)

RowT = TypeVar("RowT", Trajectory, Evaluation)


def compare(config: CompareConfig, console: Console | None = None) -> int:
    """Print the tables, write the page, and return the exit code.

    Raises:
        InputError: A run is invalid or given twice, or ``out`` cannot be used.
        StorageError: The page could not be written.
    """
    console = console or Console()
    kind = _check(config)
    named = list(zip(config.runs, _names(config.runs), strict=True))
    if kind is EVALUATIONS:
        return _compare_evaluations(config, named, console)
    runs = [_read(path, name, config.out) for path, name in named]
    tables = sections(runs)
    overview = " ".join((describe_problems([run.figures for run in runs]), *equal_runs(runs)))
    page = build_page(runs, tables, _examples(runs, config.examples), overview=overview)
    _write(config.out, page.encode("utf-8"))
    _print_tables(console, [name for _, name in named], tables, overview)
    console.print(f"\nTables with explanations and examples: {config.out}", soft_wrap=True)
    return 0


def _names(directories: Sequence[Path]) -> list[str]:
    return short_names([path.resolve() for path in directories])


def _compare_evaluations(
    config: CompareConfig, named: Sequence[tuple[Path, str]], console: Console
) -> int:
    runs = [
        read_evaluation(path, name, _link(RunPaths(path).report, config.out))
        for path, name in named
    ]
    check_comparable(runs)
    changes = differences(runs)
    tables, overview = evaluation_sections(runs, changes), describe_evaluations(runs)
    keys = example_keys(runs, config.examples)
    rows = [fetch_rows(run.directory, keys, EVALUATIONS) for run in runs]
    examples = [[each.get(key) for each in rows] for key in keys]
    page = build_page(runs, tables, examples, overview=overview)
    figures = config.out.with_suffix(".json")
    _write(config.out, page.encode("utf-8"))
    _write(figures, jsonl.dumps(to_json(runs, changes), indent=2) + b"\n")
    _print_tables(console, [name for _, name in named], tables, overview)
    console.print(
        f"\nTables with explanations and examples: {config.out}; figures as JSON: {figures}",
        soft_wrap=True,
    )
    return 0


def _write(file: Path, content: bytes) -> None:
    with new_file(file, "choose another --out") as path:
        path.write_bytes(content)


def _check(config: CompareConfig) -> RowKind[Any, Any, Any]:
    """Check the options; return the kind of rows that all runs have."""
    if not config.runs:
        raise ConfigError("no runs to compare: pass at least one run directory")
    if config.out.is_dir():
        raise ConfigError(
            f"--out {config.out} is a directory; pass a file name such as compare.html"
        )
    if config.out.suffix == ".json":
        raise ConfigError(f"--out {config.out} is the page; pass a file name such as compare.html")
    seen: dict[Path, Path] = {}
    evaluated = {}
    for path in config.runs:
        evaluated[path] = is_evaluation(path)
        read_config(path, EVALUATIONS if evaluated[path] else TRAJECTORIES)
        if evaluated[path] != evaluated[config.runs[0]]:
            first, second = sorted((config.runs[0], path), key=lambda run: not evaluated[run])
            raise ConfigError(
                f"{first} is an evaluation and {second} is not; compare evaluations with "
                "evaluations, and samples with samples"
            )
        if (other := seen.setdefault(path.resolve(), path)) is not path:
            raise ConfigError(f"{path} and {other} are the same run; pass each run once")
    return EVALUATIONS if evaluated[config.runs[0]] else TRAJECTORIES


def _read(directory: Path, name: str, page: Path) -> ComparedRun:
    document = read_config(directory)
    figures = collect_figures(
        iter_trajectories(directory), iter_failures(directory), iter_superseded(directory)
    )
    method = describe(document, figures.strategies, figures.answer_by)
    link = _link(RunPaths(directory).report, page)
    return ComparedRun(name, directory, method, models(document), figures, link)


def _link(report: Path, page: Path) -> str | None:
    """Return a relative link from the page to the page of a run; None if there is none."""
    if not report.is_file():
        return None
    relative = Path(os.path.relpath(report, page.parent)).as_posix()
    return urllib.parse.quote(os.fsencode(relative))


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


def equal_runs(runs: Sequence[ComparedRun]) -> list[str]:
    """Return a sentence for each set of runs whose samples have the same texts."""
    groups: dict[frozenset[tuple[Key, bytes]], list[str]] = {}
    for run in runs:
        if run.figures.texts:
            groups.setdefault(frozenset(run.figures.texts.items()), []).append(run.name)
    return [
        f"{' and '.join(names)} have the same text in all {counted(len(texts), 'sample')}, so "
        "nothing distinguishes their methods here."
        for texts, names in groups.items()
        if len(names) > 1
    ]


def _examples(runs: Sequence[ComparedRun], count: int) -> list[Example]:
    chosen = choose_problems([run.figures.shown for run in runs], count)
    columns = []
    for run in runs:
        keys = {problem: run.figures.shown.get(problem) for problem in chosen}
        wanted = {key for key in keys.values() if key is not None}
        rows = fetch_rows(run.directory, wanted, TRAJECTORIES)
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


def fetch_rows(
    run: Path, keys: Collection[Key], kind: RowKind[Key, RowT, Failure]
) -> dict[Key, RowT | Failure]:
    """Return the rows of ``keys``; a finished row has precedence over a failure."""
    paths = RunPaths(run, kind.name)
    rows_by_key: dict[Key, RowT | Failure] = {}
    sources: list[tuple[type[RowT] | type[Failure], list[Path]]] = [
        (Failure, paths.failure_files()),
        (kind.row, paths.row_files()),
    ]
    for row_type, files in sources:
        places = jsonl.last_rows(files, jsonl.row_key)
        selected = {key: places[key] for key in keys if key in places}
        if selected:
            rows = jsonl.rows_at(row_type, files, selected, jsonl.row_key)
            rows_by_key.update((row.key, row) for row in rows)
    return rows_by_key


def _print_tables(
    console: Console, runs: Sequence[str], tables: Sequence[Section], overview: str
) -> None:
    console.print(Text(visible(overview)), soft_wrap=True)
    names = [Text(visible(name)) for name in runs]
    for section in tables:
        headings = (column.name for column in section.columns)
        table = FiguresTable(section.title, *headings)
        of_rows = [Text(name) for name in section.methods] or names
        for name, cells in zip(of_rows, section.rows, strict=True):
            table.add_row(name, *map(_text, cells))
        console.print()
        console.print(table)


def _text(cell: Cell) -> Text:
    text = Text(visible(cell.text))
    if cell.note:
        text.append(f"\n{visible(cell.note)}", style="red" if cell.bad else "dim")
    return text
