"""References and prompt of both AIME benchmarks: whole numbers, OpenCompass' instruction."""

from __future__ import annotations

import re

INSTRUCTION = "\nRemember to put your final answer within \\boxed{}."
_WHOLE = re.compile(r"0*(\d{1,3})(?:\.0+)?(?:\^\\circ|\^\{\\circ\})?")


def whole_number(answer: str) -> str | None:
    """Return an answer such as ``025`` or ``70.0`` as ``25`` or ``70``; None for any other text."""
    match = _WHOLE.fullmatch(answer.strip().strip("$"))
    return match and str(int(match[1]))
