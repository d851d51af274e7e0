"""``tessy compare``: compare runs in tables on the terminal and in an HTML page."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tessy.config.data import CompareConfig
from tessy.core.errors import ConfigError, StorageError
from tessy.core.formatting import counted
from tessy.reports.compare import examples
from tessy.reports.compare.figures import RunFigures, collect_figures
from tessy.reports.compare.methods import describe, models, short_names
from tessy.reports.compare.page import ComparedExample, build_page
from tessy.reports.compare.sections import ComparedRun, sections
from tessy.reports.compare.table import print_tables
from tessy.storage.atomic import make_directory, write_atomically
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures, iter_trajectories, read_config


def compare(config: CompareConfig, console: Console | None = None) -> int:
    """Print the tables, write the page, and return the exit code.

    Raises:
        InputError: A run is invalid or given twice, or ``out`` cannot be used.
        StorageError: The page could not be written.
    """
    console = console or Console()
    _check(config)
    runs = [
        _read(path, name, config.out)
        for path, name in zip(config.runs, short_names(config.runs), strict=True)
    ]
    tables = sections(runs)
    overview = describe_problems([run.figures for run in runs])
    page = build_page(runs, tables, _examples(runs, config.examples), overview=overview)
    try:
        make_directory(config.out.parent)
    except OSError as error:
        raise StorageError(
            f"{config.out} cannot be written: {error}; choose another --out"
        ) from error
    write_atomically(config.out, page.encode("utf-8"))
    print_tables(console, runs, tables, overview)
    console.print(f"\nTables with explanations and examples: {config.out}", soft_wrap=True)
    return 0


def _check(config: CompareConfig) -> None:
    """Check the options before reading any rows."""
    if not config.runs:
        raise ConfigError("no runs to compare: pass at least one run directory")
    if config.out.is_dir():
        raise ConfigError(
            f"--out {config.out} is a directory; pass a file name such as compare.html"
        )
    seen: dict[Path, Path] = {}
    for path in config.runs:
        read_config(path)
        if (other := seen.setdefault(path.resolve(), path)) is not path:
            raise ConfigError(f"{path} and {other} are the same run; pass each run once")


def _read(directory: Path, name: str, page: Path) -> ComparedRun:
    document = read_config(directory)
    figures = collect_figures(iter_trajectories(directory), iter_failures(directory))
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
    every = set().union(*problems)
    shared = every.intersection(*problems)
    if len(problems) == 1:
        return f"1 run over {counted(len(every), 'problem')}."
    if shared == every:
        return f"{len(problems)} runs over the same {counted(len(every), 'problem')}."
    return (
        f"{len(problems)} runs over {counted(len(every), 'problem')}, of which {len(shared):,} "
        f"{'is' if len(shared) == 1 else 'are'} in all runs. Differences between the runs may be "
        "due to the problems."
    )


def _examples(runs: Sequence[ComparedRun], count: int) -> list[ComparedExample]:
    """Return the rows of the example problems."""
    chosen = examples.choose([run.figures.shown for run in runs], count)
    columns = []
    for run in runs:
        keys = {problem: run.figures.shown.get(problem) for problem in chosen}
        rows = examples.fetch(run.directory, {key for key in keys.values() if key is not None})
        columns.append([key and rows.get(key) for key in keys.values()])
    return [ComparedExample(rows) for rows in zip(*columns, strict=True)]
