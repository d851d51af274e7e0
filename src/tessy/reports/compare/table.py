"""Terminal output of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from tessy.reports.compare.sections import Cell, ComparedRun, Section
from tessy.runtime.terminal import figures_table, visible

# Names of at most _NAME columns are not wrapped on terminals of at least _WIDE columns.
_WIDE = 100
_NAME = 40


def print_tables(
    console: Console, runs: Sequence[ComparedRun], tables: Sequence[Section], overview: str
) -> None:
    """Print each table, with one row per run.

    Args:
        console: Receives the output.
        runs: The runs.
        tables: Result of :func:`~tessy.reports.compare.sections.sections`.
        overview: Sentence about the runs and their problems.
    """
    console.print(Text(visible(overview)), soft_wrap=True)
    names = [Text(visible(run.name)) for run in runs]
    no_wrap = console.width >= _WIDE and max(name.cell_len for name in names) <= _NAME
    for section in tables:
        headings = (column.name for column in section.columns)
        table = figures_table(section.title, *headings, no_wrap=no_wrap)
        for name, cells in zip(names, section.rows, strict=True):
            table.add_row(name, *map(_text, cells))
        console.print()
        console.print(table)


def _text(cell: Cell) -> Text:
    text = Text(visible(cell.text))
    if cell.note:
        text.append(f"\n{visible(cell.note)}", style="red" if cell.bad else "dim")
    return text
