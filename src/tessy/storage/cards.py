"""Parts shared by model cards and data cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically


def write_card(folder: Path, name: str, facts: Mapping[str, object], readme: str) -> None:
    """Write ``facts`` as the JSON document ``name``, and the card as ``README.md``."""
    jsonl.write_json(folder / name, facts)
    write_readme(folder, readme)


def write_readme(folder: Path, text: str) -> None:
    """Write ``README.md``; surrogates, as in undecodable arguments, are escaped."""
    write_atomically(folder / "README.md", text.encode("utf-8", "backslashreplace"))


def front_matter(fields: Mapping[str, str | Sequence[str]]) -> str:
    """Return the YAML block at the top of a card, from scalars and lists in YAML syntax."""
    lines = ["---"]
    for name, value in fields.items():
        if isinstance(value, str):
            lines.append(f"{name}: {value}")
        else:
            lines += [f"{name}:", *(f"- {item}" for item in value)]
    return "\n".join([*lines, "---", ""])


def listed(values: Mapping[str, object]) -> str:
    """Return versions or options on one line: ``torch 2.9, tokenizers 0.22``."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def short_digest(digest: object) -> str:
    """Return the first 16 characters of a digest with an ellipsis."""
    return f"{str(digest)[:16]}…"


def fenced(text: str) -> str:
    """Return ``text`` verbatim in a code fence longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}\n"
