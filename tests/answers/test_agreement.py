"""Answers against references."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.answers.agreement import is_correct
from tessy.answers.maths import MathsWorker
from tessy.answers.references import reference_of


def agrees(answer: str, reference: str) -> bool:
    """Return whether ``answer`` agrees with the reference in the field ``reference``."""
    final = reference_of({"reference": reference})
    return final is not None and is_correct(answer, final)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("So the answer is 42.", "42"),
        ("**42**", "42"),
        ("6 * 7 = 42", "6 * 7 = <<6*7=42>>42\n#### 42"),
        ("First 7, then \\boxed{42}. Check: 6 * 7 is 42, not 41.", "42"),
        ("\\boxed{41}, no: \\boxed{42}", "42"),
        ("\\boxed{42} and \\boxed{4", "42"),
        ("$\\boxed{\\dfrac{1}{2}}$", "0.5"),
        ("It is \\frac12.", "1/2"),
        ("1/2", "\\frac{2}{4}"),
        ("That makes $1,234.50 in all.", "1234.5"),
        ("1.5e3", "1500"),
        ("The temperature falls to −3 °C.", "-3"),
        ("x = -3", "-3"),
        ("5-3", "3"),
        ("It is -\\frac{1}{3}", "-1/3"),
        ("about 50%", "50"),
        ("so \\boxed{x = 5}", "5"),
        ("\\boxed{\\text{B}}", "b"),
        ("The answer is B.", "B"),
        ("Let me see.\nAnswer: B", "B"),
        ("So the answer is 6, 1, 7.", "6, 1, 7"),
        ("\\boxed{\\left( 1, 2 \\right)}", "(1,2)"),
        ("\\boxed{\\{1, 2\\}}", "\\{1,2\\}"),
        ("Paris", "paris"),
        ("Hence \\boxed{7}.", "We find $x = \\boxed{7}$, since 3 + 4 = 7 (not 8)."),
        ("0.10", ".1"),
        ("\\boxed{12{,}000}", "12000"),
        ("That is 5*3", "3"),
        ("The answer is (B).", "B"),
        ("\\boxed{B}", "(b)"),
        ("\\boxed{\\text{(B)}}", "B"),
        ("\\boxed{6-5i}", "6 - 5i"),
        ("\\boxed{12}", "12 \\text{ cm}"),
        ("\\boxed{12\\text{ cm}}", "12"),
        ("\\boxed{12}", "12 cm"),
        ("The area is 12 cm^2.", "12"),
        ("\\boxed{\\textbf{(B)}\\ 12}", "B"),
        ("\\boxed{B}", "\\textbf{(B)}\\ 12"),
        ("\\boxed{12}", "\\textbf{(B)}\\ 12"),
        ("\\boxed{B) 12}", "(B)"),
        ("\\boxed{1+x^2}", "x^2+1"),
        ("\\boxed{\\frac{1}{\\sqrt{3}}}", "\\frac{\\sqrt{3}}{3}"),
        ("\\boxed{\\{2, 1\\}}", "\\{1,2\\}"),
        ("So $x = 2\\pi$.", "\\pi \\cdot 2"),
        ("\\boxed{1{,}000}", "1,000"),
        ("\\boxed{1\\,000\\,000}", "1000000"),
        ("\\boxed{10^{6}}", "1000000"),
        ("\\boxed{50\\%}", "50"),
        ("\\boxed{90^\\circ}", "90"),
        ("It is 6, 100", "100"),
        ("**Answer: 5** apples, checked in 2 ways.", "5"),
        ("The answer is $5$ (see step 3).", "5"),
        ("\\boxed{1} and \\boxed{2}", "1, 2"),
        ("\\boxed{0.5}", "50\\%"),
    ],
)  # fmt: skip
def test_equal_answers_are_right(answer, reference):
    assert agrees(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("", "42"),
        ("The answer is x^2", "2"),
        ("The answer is x^{2}", "2"),
        ("", ""),
        ("anything", ""),
        ("anything", "#### "),
        ("It is 42, or 43.", "42"),
        ("\\boxed{43} (42 is wrong: 42)", "42"),
        ("\\boxed{}", "42"),
        ("no number at all", "42"),
        ("x42", "42"),
        ("5 - 3", "-3"),
        ("12", "1 2"),
        ("\\boxed{1 2}", "12"),
        ("1/0", "1"),
        ("0.333", "1/3"),
        ("The answer is not B", "B"),
        ("B\nC", "B"),
        ("1e999999999", "5"),
        ("(2, 1)", "(1, 2)"),
        ("\\boxed{listen}", "silent"),
        ("\\boxed{12 cm}", "12 m"),
        ("\\boxed{5x}", "5"),
        ("\\boxed{\\textbf{(C)}\\ 12}", "B"),
        ("\\boxed{[0,1]}", "[0,1)"),
        ("\\boxed{6+5i}", "6 - 5i"),
        ("\\boxed{6, 100}", "6100"),
        ("\\boxed{9^{9^{9^{9}}}}", "x^2"),
    ],
)
def test_different_answers_are_wrong(answer, reference):
    assert not agrees(answer, reference)


@given(
    st.fractions(max_denominator=1000),
    st.sampled_from(["It is {}.", "\\boxed{{{}}}", "Well: ${}$", "{}"]),
    st.sampled_from(["{}", "some way\n#### {}", "so \\boxed{{{}}} it is"]),
)
def test_numbers_are_compared_by_value(number: Fraction, answer: str, reference: str):
    top, bottom = number.numerator, number.denominator
    frac = f"{'-' if top < 0 else ''}\\frac{{{abs(top)}}}{{{bottom}}}"
    for text in (str(number), frac, f"{3 * top}/{3 * bottom}"):
        assert agrees(answer.format(text), reference.format(number))
    assert not agrees(answer.format(number + 1), reference.format(number))


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_compared(answer: str, reference: str):
    assert agrees(answer, reference) in (True, False)
    wanted = reference.strip().splitlines()
    if len(wanted) == 1 and agrees(reference, reference):
        assert agrees(f"Some words.\n{reference}", reference)


def test_a_worker_is_replaced_after_a_comparison_beyond_its_limits(monkeypatch):
    monkeypatch.setattr("tessy.answers.maths.LIMIT_SECONDS", 0.001)
    worker = MathsWorker()
    try:
        assert not worker.verify("x^{60}", "(a+b+c+d)^{60}")
        monkeypatch.undo()
        assert worker.verify("x+1", "1+x")
    finally:
        worker.close()


def test_a_worker_is_replaced_after_a_number_of_comparisons(monkeypatch):
    monkeypatch.setattr("tessy.answers.maths.RECYCLE_AFTER", 1)
    worker = MathsWorker()
    try:
        assert worker.verify("x+1", "1+x")
        assert worker.verify("y+1", "1+y")
    finally:
        worker.close()
