"""A comparison on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from tessy.reports.compare.sections import Cell, Compared, Section
from tessy.runtime.terminal import figures_table, visible

_WIDE = 100  # columns of a terminal on which names of this many stay in one line
_NAME = 40


def print_tables(
    console: Console, runs: Sequence[Compared], tables: Sequence[Section], common: str
) -> None:
    """Print each table, one line a run.

    Args:
        console: Where to.
        runs: The runs.
        tables: What :func:`~tessy.reports.compare.sections.sections` makes of them.
        common: A sentence on what they have in common.
    """
    console.print(Text(visible(common)), soft_wrap=True)
    names = [Text(visible(run.name)) for run in runs]
    whole = console.width >= _WIDE and max(name.cell_len for name in names) <= _NAME
    for section in tables:
        headings = (column.name for column in section.columns)
        table = figures_table(section.title, *headings, no_wrap=whole)
        for name, cells in zip(names, section.rows, strict=True):
            table.add_row(name, *map(_text, cells))
        console.print()
        console.print(table)


def _text(cell: Cell) -> Text:
    text = Text(visible(cell.text))
    if cell.note:
        text.append(f"\n{visible(cell.note)}", style="red" if cell.bad else "dim")
    return text
