"""Answers against references."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.answers.references import is_correct, reference_of


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
        ("9" * 5000, "9" * 5000 + ".") ,
    ],
)  # fmt: skip
def test_equal_answers_are_right(answer, reference):
    if len(reference) > 4000:  # more digits than a number may have: compared as text, in a box
        answer = f"\\boxed{{{answer}}}"
    assert is_correct(answer, reference)


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
    ],
)
def test_different_answers_are_wrong(answer, reference):
    assert not is_correct(answer, reference)


@given(
    st.fractions(max_denominator=1000),
    st.sampled_from(["It is {}.", "\\boxed{{{}}}", "Well: ${}$", "{}"]),
    st.sampled_from(["{}", "some way\n#### {}", "so \\boxed{{{}}} it is"]),
)
def test_numbers_are_compared_by_value(number: Fraction, answer: str, reference: str):
    top, bottom = number.numerator, number.denominator
    frac = f"{'-' if top < 0 else ''}\\frac{{{abs(top)}}}{{{bottom}}}"
    for text in (str(number), frac, f"{3 * top}/{3 * bottom}"):
        assert is_correct(answer.format(text), reference.format(number))
    assert not is_correct(answer.format(number + 1), reference.format(number))


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_compared(answer: str, reference: str):
    assert is_correct(answer, reference) in (True, False)
    wanted = reference.strip().splitlines()
    if len(wanted) == 1 and is_correct(reference, reference):
        assert is_correct(f"Some words.\n{reference}", reference)


@pytest.mark.parametrize(
    ("row", "reference"),
    [
        ({"reference": "7", "answer": "8"}, "7"),
        ({"answer": "3 + 4 = 7\n#### 7"}, "3 + 4 = 7\n#### 7"),
        ({"reference": " ", "answer": 8}, "8"),
        ({"reference": None, "answer": 0.5}, "0.5"),
        ({"reference": True, "answer": ["8"]}, None),
        ({}, None),
        ({"answer": "We sort the list, since " + "it is long " * 20}, None),
        ({"reference": "a way " * 90 + "#### 7"}, "a way " * 90 + "#### 7"),
        ({"reference": "#### Step 1\n" + "We sort. " * 30, "answer": 7}, "7"),
    ],
)
def test_the_reference_is_read_from_either_field(row, reference):
    assert reference_of(row) == reference
