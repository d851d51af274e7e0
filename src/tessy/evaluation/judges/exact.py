r"""``exact``: the final answer is the text of the reference, up to white space at the ends.

The final answer is the content of the last ``\boxed{}``, or else the last line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tessy.answers.final_answer import last_boxed
from tessy.evaluation.judges.base import Judge, Verdict

_FIELDS = ("reference", "answer", "final_answer")


def _reference(problem: Mapping[str, Any]) -> str | None:
    for name in _FIELDS:
        value = problem.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value).strip() or None
    return None


def _decide(answer: str, reference: str, problem: Mapping[str, Any]) -> Verdict | None:
    whole = answer.strip()
    if whole == reference:
        return Verdict(True, whole, "whole answer")
    boxed = last_boxed(answer)
    if boxed is not None:
        return Verdict(boxed.strip() == reference, boxed.strip(), "boxed")
    if not whole:
        return None
    last = whole.splitlines()[-1].strip()
    return Verdict(last == reference, last, "last line")


JUDGE = Judge(
    name="exact",
    version="1",
    needs="a text in `reference`, `answer` or `final_answer`",
    reference=_reference,
    decide=_decide,
)
