"""Causes of wrong answers: the first mistake in the steps of a thinking (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, get_args

from tessy.core.records import Evaluation
from tessy.lab.experiment.problems import read_problem
from tessy.lab.tasks import HARD_FACTORS, MODULUS, TaskProblem, read_answer

Mistake = Literal[
    "did not end",
    "wrong step",
    "wrong fact, never taught",
    "wrong fact, known before",
    "stopped early",
    "extra steps",
    "answer without a number",
    "answer is not its result",
]
MISTAKES: tuple[Mistake, ...] = get_args(Mistake)

MEANINGS: dict[Mistake, str] = {
    "did not end": "The response reached its token limit, or looped.",
    "wrong step": "A step is not the next one of the problem.",
    "wrong fact, never taught": "A multiplication by 6 to 9 is wrong, which the student guesses.",
    "wrong fact, known before": "Another result is wrong, of a kind that the student was taught.",
    "stopped early": "All steps are right, but some are missing.",
    "extra steps": "All steps are right, but there are more than the problem has.",
    "answer without a number": "All steps are right and complete, but the answer has no number.",
    "answer is not its result": "All steps are right and complete, but the answer is another one.",
}

_STEP = re.compile(r"(\d) ([-+*]) (\d) = (\d+)")
_VALUE = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
}


def has_no_answer(row: Evaluation) -> bool:
    """Return whether a response ended without a number in its answer."""
    return row.outcome != "truncated" and read_answer(row.answer) is None


def mistake_of(row: Evaluation) -> Mistake:
    """Return the first mistake of a wrong response to a `calc` problem."""
    if row.outcome == "truncated":
        return "did not end"
    question = next(turn.content for turn in row.messages if turn.role == "user")
    mistake = mistake_in_steps(read_problem(question, row.problem), row.thinking)
    if mistake is not None:
        return mistake
    return "answer without a number" if has_no_answer(row) else "answer is not its result"


def mistake_in_steps(problem: TaskProblem, thinking: str) -> Mistake | None:
    """Return the first mistake in the steps for a `calc` problem; None if all are right."""
    expected = zip(problem.operators, problem.digits[1:], strict=True)
    value = problem.digits[0]
    for left, operator, right, result in _steps(thinking):
        following = next(expected, None)
        if following is None:
            return "extra steps"
        if (left, operator, right) != (value, *following):
            return "wrong step"
        if result != _VALUE[operator](left, right) % MODULUS:
            hard = operator == "*" and right in HARD_FACTORS
            return "wrong fact, never taught" if hard else "wrong fact, known before"
        value = result
    return None if next(expected, None) is None else "stopped early"


def _steps(thinking: str) -> Iterator[tuple[int, str, int, int]]:
    for left, operator, right, result in _STEP.findall(thinking):
        yield int(left), operator, int(right), int(result)
