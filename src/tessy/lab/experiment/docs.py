"""Writes results into a Markdown page: ``python -m tessy.lab.experiment.docs LAB_JSON PAGE``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tessy.core.formatting import markdown_table
from tessy.storage.atomic import write_atomically

START, END = "<!-- results -->\n", "<!-- end of results -->\n"


def tables_of(document: Mapping[str, Any]) -> str:
    """Return the claim and the tables of lab.json as Markdown."""
    parts = [f"{document['facts']}\n\n**{document['claim']}**\n"]
    parts += [f"{document[name]}\n" for name in ("comparison", "parts") if document[name]]
    for table in document["tables"]:
        rows = [[name, *map(_cell, cells)] for name, *cells in table["rows"]]
        text = markdown_table([table["head"], *table["columns"]], rows)
        parts.append(f"### {table['title']}\n\n{table['about']}\n\n{text}")
    skipped = [f"{arm['name']} ({arm['skipped']})" for arm in document["arms"] if arm["skipped"]]
    if skipped:
        parts.append(f"Without a score: {', '.join(skipped)}.\n")
    return "\n".join(parts)


def _cell(cell: list[str]) -> str:
    text, note = cell
    return f"{text} ({note})" if note else text


def main(argv: list[str] | None = None) -> int:
    """Replace the results in the page; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tessy.lab.experiment.docs")
    parser.add_argument("figures", type=Path, help="lab.json of an experiment")
    parser.add_argument("page", type=Path, help="Markdown page with the marks of the results")
    options = parser.parse_args(argv)
    text = options.page.read_text("utf-8")
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not (start and end):
        parser.error(f"{options.page} has no lines {START.strip()} and {END.strip()}")
    results = tables_of(json.loads(options.figures.read_bytes()))
    write_atomically(options.page, f"{head}{START}\n{results}\n{END}{tail}".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
