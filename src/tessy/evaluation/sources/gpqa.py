"""Problems of GPQA, as multiple-choice problems with permuted options.

The order of the options depends on the problem's id only, so that it is the same in every run.
Prompt: OpenCompass (``gpqa_*_academic``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tessy.evaluation.sources.base import object_of, text_of
from tessy.storage.tables import InputRow

_CORRECT = "Correct Answer"
_INCORRECT = tuple(f"Incorrect Answer {number}" for number in (1, 2, 3))
_KEPT = {"High-level domain": "domain", "Subdomain": "subdomain"}


def make_prompt(question: str, options: Sequence[str]) -> str:
    """Return the prompt of a question with four options in their order."""
    a, b, c, d = options
    return (
        "Answer the following multiple choice question. The last line of your response should be "
        "of the following format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of "
        f"ABCD.\n\n{question}\n\nA) {a}\nB) {b}\nC) {c}\nD) {d}"
    )


def permuted(name: str, count: int) -> list[int]:
    """Return a permutation of ``range(count)`` that depends on a problem's id only."""
    return sorted(range(count), key=lambda n: hashlib.sha256(f"{name}/{n}".encode()).digest())


def convert_gpqa(file: Path, row: InputRow) -> dict[str, Any]:
    """Return the problem of a row, whose columns are found by name.

    ``answer`` is the index of the correct option.
    """
    value = object_of(row)
    name = text_of(value, "Record ID").strip()
    options = [text_of(value, field).strip() for field in (_CORRECT, *_INCORRECT)]
    order = permuted(name, len(options))
    choices = [options[n] for n in order]
    return {
        "id": name,
        "prompt": make_prompt(text_of(value, "Question").strip(), choices),
        "choices": choices,
        "answer": order.index(0),
        **{name: value[column] for column, name in _KEPT.items() if value.get(column)},
    }
