"""``maths``: the final answer has the value of the reference (:mod:`tessy.answers.agreement`)."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from tessy.answers.agreement import find_final_answer
from tessy.answers.references import reference_of
from tessy.evaluation.judges.base import Judge, Verdict


def _decide(answer: str, reference: str, problem: Mapping[str, Any]) -> Verdict | None:
    final = find_final_answer(answer, reference)
    return final and Verdict(final.correct, final.text, final.rule)


JUDGE = Judge(
    name="maths",
    version=f"1 (math-verify {importlib.metadata.version('math-verify')})",
    needs="a short final answer in `reference`, `answer`, `final_answer` or `solution`",
    reference=reference_of,
    decide=_decide,
)
