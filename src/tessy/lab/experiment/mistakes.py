"""Why a wrong answer is wrong: the first mistake in the steps of a thinking (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, get_args

from tessy.core.records import Evaluation
from tessy.lab.experiment.problems import read_problem
from tessy.lab.tasks import HARD_FACTORS, MODULUS, TaskProblem, read_answer

Mistake = Literal[
    "no answer",
    "lost its place",
    "wrong fact, never taught",
    "wrong fact, known before",
    "stopped early",
    "went on",
    "answer is not its result",
]
MISTAKES: tuple[Mistake, ...] = get_args(Mistake)

MEANINGS: dict[Mistake, str] = {
    "no answer": "The response did not end, or has no answer.",
    "lost its place": "A step is not the next one of the problem.",
    "wrong fact, never taught": "A product of 6 to 9 is wrong; the untrained student guesses it.",
    "wrong fact, known before": "Another step has a wrong result.",
    "stopped early": "All steps are right, but some are missing.",
    "went on": "All steps are right, but there are more than the problem has.",
    "answer is not its result": "All steps are right, but the answer is another number.",
}

_STEP = re.compile(r"(\d) ([-+*]) (\d) = (\d+)")
_VALUE = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
}


def mistake_of(row: Evaluation) -> Mistake:
    """Return the first mistake of a wrong response to a `calc` problem."""
    if row.outcome in ("truncated", "no_answer") or read_answer(row.answer) is None:
        return "no answer"
    question = next(turn.content for turn in row.messages if turn.role == "user")
    return first_mistake(read_problem(question, row.problem), row.thinking)


def first_mistake(problem: TaskProblem, thinking: str) -> Mistake:
    """Return the first mistake in the steps for a `calc` problem whose answer is wrong."""
    expected = zip(problem.operators, problem.digits[1:], strict=True)
    value = problem.digits[0]
    for left, operator, right, result in _steps(thinking):
        following = next(expected, None)
        if following is None:
            return "went on"
        if (left, operator, right) != (value, *following):
            return "lost its place"
        if result != _VALUE[operator](left, right) % MODULUS:
            hard = operator == "*" and right in HARD_FACTORS
            return "wrong fact, never taught" if hard else "wrong fact, known before"
        value = result
    return "answer is not its result" if next(expected, None) is None else "stopped early"


def _steps(thinking: str) -> Iterator[tuple[int, str, int, int]]:
    for left, operator, right, result in _STEP.findall(thinking):
        yield int(left), operator, int(right), int(result)
