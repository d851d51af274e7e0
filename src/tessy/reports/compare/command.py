"""``tessy compare``: runs side by side, on the terminal and as one page."""

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
from tessy.reports.compare.figures import RunFigures, count
from tessy.reports.compare.methods import describe, models, names
from tessy.reports.compare.page import ComparedExample, build_page
from tessy.reports.compare.sections import Compared, sections
from tessy.reports.compare.table import print_tables
from tessy.storage.atomic import make_directory, write_atomically
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures, iter_trajectories, read_config


def compare(config: CompareConfig, console: Console | None = None) -> int:
    """Print the tables and write the page; the exit code.

    Raises:
        InputError: A run is none, is given twice or cannot be read; the page has no place.
        StorageError: The page could not be written.
    """
    console = console or Console()
    _check(config)
    runs = [
        _read(path, name, config.out)
        for path, name in zip(config.runs, names(config.runs), strict=True)
    ]
    tables = sections(runs)
    common = in_common([run.figures for run in runs])
    page = build_page(runs, tables, _examples(runs, config.examples), common=common)
    try:
        make_directory(config.out.parent)
    except OSError as error:
        raise StorageError(
            f"{config.out} cannot be written: {error}; choose another --out"
        ) from error
    write_atomically(config.out, page.encode("utf-8"))
    print_tables(console, runs, tables, common)
    console.print(f"\nThe same, explained, with examples: {config.out}", soft_wrap=True)
    return 0


def _check(config: CompareConfig) -> None:
    """Refuse before reading gigabytes what would be refused after it."""
    if not config.runs:
        raise ConfigError("there is nothing to compare: name run directories, at least one")
    if config.out.is_dir():
        raise ConfigError(f"--out {config.out} is a directory; name a file, such as compare.html")
    seen: dict[Path, Path] = {}
    for path in config.runs:
        read_config(path)
        if (other := seen.setdefault(path.resolve(), path)) is not path:
            raise ConfigError(f"{path} and {other} are one run; name each run once")


def _read(directory: Path, name: str, page: Path) -> Compared:
    document = read_config(directory)
    figures = count(iter_trajectories(directory), iter_failures(directory))
    method = describe(document, figures.strategies, figures.answer_by)
    link = _link(RunPaths(directory).report, page)
    return Compared(name, directory, method, models(document), figures, link)


def _link(report: Path, page: Path) -> str | None:
    """From the page to a run's own, relative, so that both can be moved together."""
    if not report.is_file():
        return None
    relative = Path(os.path.relpath(report, page.parent)).as_posix()
    return urllib.parse.quote(os.fsencode(relative))


def in_common(figures: Sequence[RunFigures]) -> str:
    """Return a sentence on the problems of the runs."""
    asked = [run.shown.keys() for run in figures]
    every = set().union(*asked)
    shared = every.intersection(*asked)
    if len(asked) == 1:
        return f"1 run over {counted(len(every), 'problem')}."
    if shared == every:
        return f"{len(asked)} runs over the same {counted(len(every), 'problem')}."
    return (
        f"{len(asked)} runs over {counted(len(every), 'problem')}, of which {len(shared):,} "
        f"{'is' if len(shared) == 1 else 'are'} in all of them: part of what differs may be due "
        "to the problems."
    )


def _examples(runs: Sequence[Compared], wanted: int) -> list[ComparedExample]:
    """Return the rows of the problems that are shown."""
    chosen = examples.choose([run.figures.shown for run in runs], wanted)
    columns = []
    for run in runs:
        keys = {question: run.figures.shown.get(question) for question in chosen}
        rows = examples.fetch(run.directory, {key for key in keys.values() if key is not None})
        columns.append([key and rows.get(key) for key in keys.values()])
    return [ComparedExample(rows) for rows in zip(*columns, strict=True)]
