"""A comparison on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tessy.compare.sections import Cell, Compared, Section
from tessy.terminal import visible

_WIDE = 100  # columns of a terminal on which names of this many stay in one line
_NAME = 40


def print_tables(
    console: Console, runs: Sequence[Compared], tables: Sequence[Section], common: str
) -> None:
    """Print each table, one line a run.

    Args:
        console: Where to.
        runs: The runs.
        tables: What :func:`~tessy.compare.sections.sections` makes of them.
        common: A sentence on what they have in common.
    """
    console.print(Text(visible(common)), soft_wrap=True)
    names = [Text(visible(run.name)) for run in runs]
    whole = console.width >= _WIDE and max(name.cell_len for name in names) <= _NAME
    for section in tables:
        table = Table(title=section.title, title_justify="left", box=None, pad_edge=False)
        table.add_column("", overflow="fold", no_wrap=whole)
        for column in section.columns:
            table.add_column(column.name, justify="right")
        for name, cells in zip(names, section.rows, strict=True):
            table.add_row(name, *map(_text, cells))
        console.print()
        console.print(table)


def _text(cell: Cell) -> Text:
    text = Text(visible(cell.text))
    if cell.note:
        text.append(f"\n{visible(cell.note)}", style="red" if cell.bad else "dim")
    return text
