"""Problems of OlympiadBench (He et al., arXiv 2402.14008) with open answers and without images.

Prompt: OpenCompass (``OlympiadBench``), which is the data set's own and a last line about the box.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tessy.evaluation.sources.base import object_of, text_of
from tessy.storage.conversations import BadField
from tessy.storage.tables import InputRow

_KEPT = ("subfield", "subject", "answer_type", "is_multiple_answer", "unit", "error")
_TYPES = {
    "Numerical": "a numerical value",
    "Expression": "an expression",
    "Equation": "an equation",
    "Interval": "an interval",
}
# References of the data set with misplaced markup.
_REPAIRED = {
    "$(-\\infty, 0) \\cup\\{1\\}$.": "$(-\\infty, 0) \\cup \\{1\\}$",
    "$221,$8$": "$221$,$8$",
}


def make_prompt(row: Mapping[str, Any], problem: str) -> str:
    """Return the prompt of a problem from its row and its text."""
    several, unit = bool(row.get("is_multiple_answer")), row.get("unit")
    box = "\\boxed{multiple answers connected with commas}" if several else "\\boxed{answer}"
    note = ""
    if unit:
        box += "(unit)"
        note = ", note that the unit of the answer should not be included in \\boxed{}"
    return (
        "The following is an open-ended problem from an International Math competition. "
        f"{_type_of_answer(row, several=several)}Please calculate the answer according to the "
        "given requirements and the information provided. Please use LaTeX format to represent the "
        "variables and formulas used in the solution process and results. Please end your solution "
        f'with "So the final answer is {box}." and give the result explicitly{note}.\n{problem}\n\n'
        "Please reason step by step, and put your final answer within \\boxed{}."
    )


def _type_of_answer(row: Mapping[str, Any], *, several: bool) -> str:
    kinds = str(row.get("answer_type") or "")
    if "Tuple" in kinds or "Need_human_evaluate" in kinds or not kinds:
        return ""
    names = [_type_name(kind) for kind in kinds.split(",")]
    if not several:
        return f"The answer of The problem should be {names[0]}. "
    if len(set(names)) == 1:
        return f"The problem has multiple answers, each of them should be {names[0]}. "
    listed = ", ".join(names)
    return f"The problem has multiple answers, with the answers in order being {listed}. "


def _type_name(kind: str) -> str:
    for name, text in _TYPES.items():
        if name in kind:
            return text
    raise BadField("answer_type", f"expected some of {', '.join(_TYPES)}, Tuple; got {kind!r:.40}")


def convert_olympiadbench(file: Path, row: InputRow) -> dict[str, Any]:
    """Return the problem of a row; two wrong references are repaired."""
    value = object_of(row)
    answers = value.get("final_answer")
    if not (isinstance(answers, list) and len(answers) == 1 and isinstance(answers[0], str)):
        raise BadField("final_answer", "expected a list with one text")
    problem = text_of(value, "question")
    context = value.get("context")
    if isinstance(context, str) and context.strip():
        problem = f"{context}\n{problem}"
    if "id" not in value:
        raise BadField("id", "expected the id of a problem, got none")
    return {
        "id": value["id"],
        "prompt": make_prompt(value, problem),
        "reference": _REPAIRED.get(answers[0], answers[0]),
        **{field: value[field] for field in _KEPT if value.get(field) is not None},
    }
