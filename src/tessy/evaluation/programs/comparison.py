"""Comparison of a program's output with the expected output, by the rules of LiveCodeBench.

LiveCodeBench: https://github.com/LiveCodeBench/LiveCodeBench, ``evaluation/testing_util.py``.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation

_SHOWN_CHARACTERS = 60


def output_difference(output: str, expected: str) -> str | None:
    """Return the first difference of two outputs; None if they are the same.

    White space at the ends of the outputs and of their lines does not count. Lines are the same as
    texts, or as lists of exact decimal numbers.
    """
    found, references = _lines(output), _lines(expected)
    if len(found) != len(references):
        return f"{len(found)} lines instead of {len(references)}"
    for number, (line, reference) in enumerate(zip(found, references, strict=True), 1):
        if line != reference and not _same_numbers(line, reference):
            return f"line {number}: {shortened(line)!r} instead of {shortened(reference)!r}"
    return None


def result_difference(result: str, expected: object) -> str | None:
    """Return how a value, as JSON, differs from the expected one; None if they are the same.

    Numbers of different types are the same if they have the same value.
    """
    try:
        same = bool(json.loads(result) == expected)
    except (ValueError, RecursionError):  # a program can write any text
        same = False
    return None if same else f"{shortened(result)} instead of {shortened(json.dumps(expected))}"


def shortened(text: str) -> str:
    """Return a text shortened for a message."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _lines(output: str) -> list[str]:
    return [line.strip() for line in output.strip().split("\n")]


def _same_numbers(line: str, reference: str) -> bool:
    try:
        return [*map(Decimal, line.split())] == [*map(Decimal, reference.split())]
    except InvalidOperation:
        return False
