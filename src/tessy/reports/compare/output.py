"""Output of comparisons: tables on the terminal, and links between pages."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tessy.reports.compare.sections import Cell, Section
from tessy.runtime.terminal import FiguresTable, visible


def link_to(report: Path, page: Path) -> str | None:
    """Return a relative link from the page to the page of a run; None if there is none."""
    if not report.is_file():
        return None
    relative = Path(os.path.relpath(report, page.parent)).as_posix()
    return urllib.parse.quote(os.fsencode(relative))


def print_sections(
    console: Console, names: Sequence[str], tables: Sequence[Section], overview: str
) -> None:
    """Print the tables, with one row for each name."""
    console.print(Text(visible(overview)), soft_wrap=True)
    for section in tables:
        headings = (column.name for column in section.columns)
        table = FiguresTable(section.title, *headings)
        for name, cells in zip(names, section.rows, strict=True):
            table.add_row(Text(visible(name)), *map(_text, cells))
        console.print()
        console.print(table)


def _text(cell: Cell) -> Text:
    text = Text(visible(cell.text))
    if cell.note:
        text.append(f"\n{visible(cell.note)}", style="red" if cell.bad else "dim")
    return text
