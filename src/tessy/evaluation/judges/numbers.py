"""``numbers``: the final answer is the last number, or list of numbers, of the response.

Unlike ``maths``, for which a list is a set, the numbers must have the order of the reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tessy.answers.references import reference_of
from tessy.evaluation.judges.base import Judge, Verdict

_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?(?:, ?-?\d+(?:\.\d+)?)*")


def _reference(problem: Mapping[str, Any]) -> str | None:
    reference = reference_of(problem)
    return reference if reference is not None and _NUMBERS.fullmatch(reference) else None


def _decide(answer: str, reference: str, problem: Mapping[str, Any]) -> Verdict | None:
    found = _NUMBERS.findall(answer)
    if not found:
        return None
    correct = re.split(", ?", found[-1]) == re.split(", ?", reference)
    return Verdict(correct, found[-1], "last numbers")


JUDGE = Judge(
    name="numbers",
    version="1",
    needs="a number, or a list such as `5, 1, 3`, in `reference`, `answer` or `final_answer`",
    reference=_reference,
    decide=_decide,
)
