"""Rows in the format of OJBench, with problems of our own."""

from __future__ import annotations

from typing import Any

PROMPT = (
    "### Problem Description\nPrint the sum of two numbers ({name}).\n\n### Format: Read the "
    "inputs from stdin.\n\n### Answer: (use the provided format with backticks)\n"
)


def row(name: int | str, language: str, **more: Any) -> dict[str, Any]:
    """Return a problem in a language."""
    return {
        "id": name,
        "prompt": PROMPT.format(name=f"{name} in {language}"),
        "dataset": "NOI" if isinstance(name, int) else "ICPC",
        "language": language,
        "difficulty": "easy",
        **more,
    }
