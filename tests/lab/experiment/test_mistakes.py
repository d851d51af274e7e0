"""The first mistake of a wrong answer."""

from __future__ import annotations

import pytest

from tessy.core.records import Evaluation, Message, TokenCounts
from tessy.lab.experiment.mistakes import (
    MEANINGS,
    MISTAKES,
    has_no_answer,
    mistake_in_steps,
    mistake_of,
)
from tessy.lab.tasks import TaskProblem

PROBLEM = TaskProblem("calc", "What is 5 - 3 * 7 + 1?", (5, 3, 7, 1), ("-", "*", "+"))
RIGHT = "Okay, let's see. 5 - 3 = 2. Then 2 * 7 = 4.\nSo 4 + 1 = 5."


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (RIGHT, None),
        (RIGHT + " Now 5 + 1 = 6.", "extra steps"),
        ("5 - 3 = 2. 2 * 7 = 4.", "stopped early"),
        ("", "stopped early"),
        ("5 - 3 = 2. 2 * 7 = 9. 9 + 1 = 0.", "wrong fact, never taught"),
        ("5 - 3 = 1. 1 * 7 = 7. 7 + 1 = 8.", "wrong fact, known before"),
        ("5 - 3 = 2. 3 * 7 = 1. 1 + 1 = 2.", "wrong step"),
        ("5 - 3 = 2. 2 + 7 = 9. 9 + 1 = 0.", "wrong step"),
        ("5 - 3 = 2. 5 - 3 = 2. 2 * 7 = 4. 4 + 1 = 5.", "wrong step"),
    ],
)
def test_the_first_mistake(thinking, expected):
    assert mistake_in_steps(PROBLEM, thinking) == expected


@pytest.mark.parametrize(
    ("outcome", "thinking", "answer", "expected", "missing"),
    [
        ("truncated", RIGHT, "", "did not end", False),
        ("no_answer", RIGHT, "", "answer without a number", True),
        ("wrong", RIGHT, "I do not know.", "answer without a number", True),
        ("no_answer", "5 - 3 = 2.", "", "stopped early", True),
        ("wrong", RIGHT, "So the answer is 4.", "answer is not its result", False),
    ],
)
def test_the_answer_is_looked_at_last(outcome, thinking, answer, expected, missing):
    row = Evaluation(
        id="calc-0001",
        sample=0,
        strategy="evaluate",
        messages=(Message(role="user", content=PROBLEM.text),),
        thinking=thinking,
        answer=answer,
        spans=({"start": 0, "end": len(thinking), "author": "student"},),
        tokens=TokenCounts(),
        attempts=1,
        seconds=1,
        problem={"task": "calc", "digits": PROBLEM.digits, "operators": PROBLEM.operators},
        outcome=outcome,
        reference="5",
        judge="numbers 1",
    )
    assert mistake_of(row) == expected
    assert has_no_answer(row) == missing


def test_every_mistake_is_explained():
    assert tuple(MEANINGS) == MISTAKES
