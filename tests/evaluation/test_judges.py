"""Judges, and rows of judged responses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tessy.answers.maths import same_formula
from tessy.core.errors import TessyError
from tessy.core.records import Evaluation, Failure
from tessy.evaluation.grading import OUTCOMES, Grader
from tessy.evaluation.judges.registry import all_judges
from tessy.evaluation.load import JudgedProblem
from tessy.runtime.runner import JobResult
from tests.support import rows

CHOICES = ["seven", "12", "x + 1"]


def verdict(judge: str, problem: dict[str, Any], answer: str) -> tuple[bool, str] | None:
    found = all_judges()[judge]
    reference = found.reference(problem)
    assert reference is not None
    decided = found.decide(answer, reference, problem)
    return decided and (decided.correct, decided.final_answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (r"So it is \boxed{\frac{1}{2}}.", (True, r"\frac{1}{2}")),
        (r"\boxed{0.5} and not 7", (True, "0.5")),
        (r"\boxed{2}", (False, "2")),
        ("The answer is 1/2.", (True, "1/2")),
        ("It is 3, or rather 4.", (False, "4")),
        ("I do not know.", None),
        ("", None),
        (r"\boxed{}", None),
    ],
)
def test_maths(answer, expected):
    assert verdict("maths", {"answer": "One half.\n#### 1/2"}, answer) == expected


@pytest.mark.parametrize(
    "problem",
    [{"answer": "B"}, {"reference": "(b)"}, {"answer": 1}, {"answer": "12"}, {"label": 1}],
)
@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        (r"\boxed{B}", True),
        ("The answer is (B).", True),
        ("Answer: B) 12", True),
        (r"\boxed{12}", True),
        (r"\boxed{A}", False),
        ("The answer is C.", False),
        (r"\boxed{seven}", False),
        (r"\boxed{9}", None),
    ],
)
def test_choice(problem, answer, correct):
    found = verdict("choice", problem | {"choices": CHOICES}, answer)
    assert (found and found[0]) == correct


@pytest.mark.parametrize("choices", [{}, {"choices": CHOICES}])
@pytest.mark.parametrize(
    ("answer", "letter", "rule"),
    [
        ("Option A is correct", "A", "named choice"),
        ("Well, B or C.\nTherefore A is correct.", "A", "named choice"),
        ("The answer is option A", "A", "named choice"),
        ("**Option A**", "A", "named choice"),
        ("So it must be **B**.", "B", "named choice"),
        ("**B** is the right answer.", "B", "named choice"),
        ("I choose (B)", "B", "named choice"),
        ("I pick B.", "B", "named choice"),
        ("The correct choice is A because of X", "A", "named choice"),
        (r"\boxed{\text{Option B}}", "B", "named choice"),
        ("Answer: option B", "B", "stated answer"),
        ("**Answer:** Choice (B)", "B", "stated answer"),
    ],
)
def test_a_letter_that_is_named_clearly_is_the_final_answer(choices, answer, letter, rule):
    decide = all_judges()["choice"].decide
    assert decide(answer, letter, choices) == (True, letter, rule)
    other = "C" if letter == "B" else "B"
    assert decide(answer, other, choices) == (False, letter, rule)


@pytest.mark.parametrize(
    "answer",
    [
        "A function of x is correct.",
        "The answer is A function of x.",
        "A choice is made",
        "Option A or B",
        "Answer: option A or B",
        "Option A, since B is too small",
        "(A) and (B)",
        "Option A is incorrect.",
        "Option A is wrong",
        "It isn't option A.",
        "This rules out option A.",
        "Is it option A?",
        "If option A is correct",
        "Option A has more mass than any",
        "We see a body (A), which falls",
        "Option A is correct.\nThis was a hard problem.",
        "Option J is correct",
        r"Option A is correct: \boxed{9}",
    ],
)
def test_a_letter_that_is_not_named_clearly_is_no_final_answer(answer):
    for reference in "AB":
        assert verdict("choice", {"answer": reference, "choices": CHOICES}, answer) is None


def test_choices_have_several_forms():
    labelled = {"label": ["A", "B"], "text": ["x", "y"]}
    assert verdict("choice", {"choices": labelled, "answer": "B"}, "Answer: B") == (
        True,
        "B",
    )
    by_letter = {"options": {"A": "x", "B": "y"}, "answer": "A"}
    assert all_judges()["choice"].reference(by_letter) == "A"
    for bad in ("D", "z", 3, -1, True, None):
        assert all_judges()["choice"].reference({"choices": ["x", "y"], "answer": bad}) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Paris", (True, "Paris")),
        ("Well.\nParis ", (True, "Paris")),
        (r"It is \boxed{Paris}, not Rome", (True, "Paris")),
        ("paris", (False, "paris")),
        ("  ", None),
    ],
)
def test_exact(answer, expected):
    assert verdict("exact", {"reference": " Paris "}, answer) == expected


def grader(judge: str = "maths", reference: str = "4") -> Grader:
    return Grader({"a": JudgedProblem(all_judges()[judge], reference)})


def finish(result: JobResult) -> JobResult:
    with_judge = grader()
    try:
        return asyncio.run(with_judge.finish(result))
    finally:
        with_judge.close()


def test_a_finished_response_is_judged():
    row = finish(JobResult(row=rows.row(answer="2 + 2 = 4"), tokens=7)).row
    assert isinstance(row, Evaluation)
    assert (row.outcome, row.final_answer, row.reference) == ("correct", "4", "4")
    assert row.judge.startswith("maths 1 (math-verify ")
    assert (row.rule, row.key, row.thinking) == ("number", ("a", 0), "Okay. 2 + 2")


@pytest.mark.parametrize("reason", sorted(OUTCOMES))
def test_a_failure_by_the_model_is_a_row_that_is_not_judged(reason):
    failure = rows.failure(reason=reason)  # its text has the correct answer
    result = finish(JobResult(failure=failure))
    assert result.failure is None
    assert isinstance(result.row, Evaluation)
    row = result.row
    assert (row.outcome, row.reason, row.detail) == (OUTCOMES[reason], reason, "no room")
    assert row.final_answer is None


@pytest.mark.parametrize("reason", ["server_error", "refused", "prompt_too_long"])
def test_a_failure_of_the_server_stays_a_failure(reason):
    failure = rows.failure(reason=reason)
    result = finish(JobResult(failure=failure))
    assert (result.row, result.failure) == (None, failure)
    assert isinstance(result.failure, Failure)


def test_a_response_without_a_final_answer_has_a_detail_that_speaks_of_the_judge():
    row = grader("choice", "A").grade(rows.row(answer="Option A or B"))
    assert (row.outcome, row.final_answer) == ("no_answer", None)
    assert row.detail == "the judge finds no final answer in the response"


def test_a_judge_that_hangs_is_a_judge_error(monkeypatch):
    assert same_formula("x+1", "1+x")  # the worker has started
    monkeypatch.setattr("tessy.answers.maths.LIMIT_SECONDS", 0.001)
    hung = grader(reference="x^{60}").grade(rows.row(answer=r"\boxed{(a+b+c+d)^{60}}"))
    assert (hung.outcome, hung.final_answer) == ("judge_error", None)
    assert "was killed" in hung.detail


def test_a_judge_that_fails_is_a_judge_error_but_one_that_cannot_work_stops_the_run():
    def broken(error: Exception) -> Grader:
        def decide(*_: object) -> None:
            raise error

        judge = replace(all_judges()["exact"], decide=decide)
        return Grader({"a": JudgedProblem(judge, "4")})

    row = broken(ZeroDivisionError("by 0")).grade(rows.row())
    assert (row.outcome, row.detail) == ("judge_error", "ZeroDivisionError: by 0")
    with pytest.raises(TessyError, match="does not start"):
        broken(TessyError("it does not start")).grade(rows.row())


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("5, 1, 3", "So the answer is 5, 1, 3.", (True, "5, 1, 3")),
        ("5, 1, 3", "So the answer is 1, 3, 5.", (False, "1, 3, 5")),
        ("5, 1, 3", "5,1,3", (True, "5,1,3")),
        ("5, 1, 3", "It is 5, 1.", (False, "5, 1")),
        ("3", "It is 5, 1, 3.", (False, "5, 1, 3")),
        ("4", "After 3 steps: -4.", (False, "-4")),
        ("4", "Result: 4.", (True, "4")),
        ("4", "After 5 steps it is 4.", (True, "4")),
        ("4", "I do not know.", None),
    ],
)
def test_numbers_have_the_order_of_the_reference(reference, answer, expected):
    assert verdict("numbers", {"reference": reference}, answer) == expected


def test_numbers_need_a_reference_of_numbers():
    assert all_judges()["numbers"].reference({"reference": "x + 1"}) is None
    assert all_judges()["numbers"].reference({}) is None
