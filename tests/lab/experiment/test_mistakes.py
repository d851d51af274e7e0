"""The first mistake of a wrong answer."""

from __future__ import annotations

import pytest

from tessy.core.records import Evaluation, Message, TokenCounts
from tessy.lab.experiment.mistakes import MEANINGS, MISTAKES, first_mistake, mistake_of
from tessy.lab.tasks import TaskProblem

PROBLEM = TaskProblem("calc", "What is 5 - 3 * 7 + 1?", (5, 3, 7, 1), ("-", "*", "+"))
RIGHT = "Okay, let's see. 5 - 3 = 2. Then 2 * 7 = 4.\nSo 4 + 1 = 5."


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (RIGHT, "answer is not its result"),
        (RIGHT + " Now 5 + 1 = 6.", "went on"),
        ("5 - 3 = 2. 2 * 7 = 4.", "stopped early"),
        ("", "stopped early"),
        ("5 - 3 = 2. 2 * 7 = 9. 9 + 1 = 0.", "wrong fact, never taught"),
        ("5 - 3 = 1. 1 * 7 = 7. 7 + 1 = 8.", "wrong fact, known before"),
        ("5 - 3 = 2. 3 * 7 = 1. 1 + 1 = 2.", "lost its place"),
        ("5 - 3 = 2. 2 + 7 = 9. 9 + 1 = 0.", "lost its place"),
        ("5 - 3 = 2. 5 - 3 = 2. 2 * 7 = 4. 4 + 1 = 5.", "lost its place"),
    ],
)
def test_the_first_mistake(thinking, expected):
    assert first_mistake(PROBLEM, thinking) == expected


@pytest.mark.parametrize(
    ("outcome", "answer", "expected"),
    [
        ("truncated", "", "no answer"),
        ("no_answer", "", "no answer"),
        ("wrong", "I do not know.", "no answer"),
        ("wrong", "So the answer is 4.", "answer is not its result"),
    ],
)
def test_a_row_without_an_answer(outcome, answer, expected):
    row = Evaluation(
        id="calc-0001",
        sample=0,
        strategy="evaluate",
        messages=(Message(role="user", content=PROBLEM.text),),
        thinking=RIGHT,
        answer=answer,
        spans=({"start": 0, "end": len(RIGHT), "author": "student"},),
        tokens=TokenCounts(),
        attempts=1,
        seconds=1,
        problem={"task": "calc", "digits": PROBLEM.digits, "operators": PROBLEM.operators},
        outcome=outcome,
        reference="5",
        judge="numbers 1",
    )
    assert mistake_of(row) == expected


def test_every_mistake_is_explained():
    assert tuple(MEANINGS) == MISTAKES
