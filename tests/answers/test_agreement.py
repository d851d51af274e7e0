"""Answers against references."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.answers.agreement import is_correct
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
        ("The answer is (B).", "B"),
        ("(B) is correct.", "B"),
        ("(B) False", "B"),
        ("(B) is not incorrect", "B"),
        ("(C) is not wrong, it is right", "C"),
        ("(A) is not a prime", "A"),
        ("A) is not a prime", "(A) is not a prime"),
        ("(A) is not a prime", "is not a prime"),
        ("\\boxed{\\text{(A) is not closed}}", "A"),
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
        ("**Answer: 5** apples, checked in 2 ways.", "5"),
        ("The answer is $5$ (see step 3).", "5"),
        ("\\boxed{1} and \\boxed{2}", "1, 2"),
        ("\\boxed{0.5}", "50\\%"),
        ("<think>\\boxed{41}?</think>It is 42.", "42"),
        ("\\boxed{Yes!}", "yes"),
        ("It is 10 km.", "10 km"),
        ("The answer is 3 times 4 = 12", "12"),
        ("It is 12cm.", "12"),
        ("\\boxed{5 days}", "5"),
        ("\\boxed{12}", "12 apples"),
        ("\\boxed{2} and \\boxed{1}", "1,2"),
        ("答案是5。", "5"),
        ("答案：**B**", "B"),
        ("\\boxed{1 3/10}", "13/10"),
        ("\\boxed{1\\frac{3}{10}}", "1.3"),
        ("\\boxed{-1\\frac12}", "-1.5"),
        ("\\boxed{(1,\\infty)}", "x>1"),
        ("\\boxed{x=5}", "x = 5"),
        ("\\boxed{(B) 1/2}", "(B) 0.5"),
        ("\\boxed{A and B}", "A and B"),
        ("\\boxed{12_{3}}", "12_3"),
        ("\\boxed{6!}", "6!"),
        ("The answer is A", "a"),
        ("\\boxed{5 cents}", "5 cents"),
        ("\\boxed{\\$5}", "5 dollars"),
        ("\\boxed{2020-01-05}", "2020-01-05"),
        ("\\boxed{1,2}", "\\{1,2\\}"),
        ("\\boxed{12 m/s}", "12"),
        ("It is 42, not more", "42"),
        ("Profit: $1,234", "1234"),
        ("So, 42", "42"),
        ("x = 12 km/h", "12"),
        ("\\boxed{3 square feet}", "3"),
        ("The correct option is C", "C"),
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
        ("(A) is wrong.", "A"),
        ("A) isn't right", "A"),
        ("**(A)** is not correct", "A"),
        ("A: is incorrect", "A"),
        ("(A) is clearly wrong.", "A"),
        ("(A) is also incorrect", "A"),
        ("(A) isn’t the right answer", "A"),
        ("(A) cannot be correct.", "A"),
        ("A) can't be true", "A"),
        ("(A) would be wrong", "A"),
        ("(A) is the wrong answer", "A"),
        ("(A) does not hold", "A"),
        ("(A) can be ruled out", "A"),
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
        ("\\boxed{f(x)=x^2}", "g(x)=x^2"),
        ("x = 2\\pi or x = \\pi", "\\pi"),
        ("It is 10 km", "10 m"),
        ("5-3", "3"),
        ("That is 5*3", "3"),
        ("It is 6, 100", "100"),
        ("It is 10-5", "5"),
        ("3 or 4", "4"),
        ("between 3 and 4", "4"),
        ("2:5", "5"),
        ("12x", "12"),
        ("12 + 5", "5"),
        ("12 + 5", "12"),
        ("It is 10^{6}", "10"),
        ("It is \\sqrt{2}", "2"),
        ("It is \\frac{a}{12}", "12"),
        ("It is 6!", "6"),
        ("x_{12}", "12"),
        ("the range is 3–4", "4"),
        ("5 million", "5"),
        ("The answer is 5 million", "5"),
        ("It is 12\\pi", "12"),
        ("the answer is not 5", "5"),
        ("This is a", "A"),
        ("\\boxed{(a) 5, (b) 7}", "(a) 5, (b) 8"),
        ("\\boxed{(a)(b+1)}", "a"),
        ("\\boxed{(a)b}", "(a)c"),
        ("\\boxed{a.b}", "a"),
        ("\\boxed{(A)}", "(A) and (B)"),
        ("\\boxed{C: 12}", "B: 12"),
        ("\\boxed{B: 12}", "B: 13"),
        ("\\boxed{12 apples}", "12"),
        ("\\boxed{5 million}", "5"),
        ("\\boxed{5 dozen}", "5"),
        ("\\boxed{5 or}", "5"),
        ("\\boxed{5 x}", "5"),
        ("\\boxed{5 n}", "5"),
        ("\\boxed{5 is}", "5"),
        ("\\boxed{6!}", "6"),
        ("\\boxed{5 cents}", "\\$5"),
        ("\\boxed{\\$5}", "5 cents"),
        ("\\boxed{5}", "5 million"),
        ("\\boxed{x=1 \\text{ or } x=2}", "2"),
        ("\\boxed{x=1, x=2}", "2"),
        ("\\boxed{a=1, b=2}", "2"),
        ("\\boxed{2020-01-05}", "2014"),
        ("\\boxed{2020-01-05}", "2020-05-01"),
        ("\\boxed{2024/01/05}", "2024/05/01"),
        ("\\boxed{555-1234}", "-679"),
        ("\\boxed{12_3}", "12"),
        ("\\boxed{12_3}", "12_4"),
        ("\\boxed{12_3}", "5"),
        ("\\boxed{(0,1)}", "\\{0,1\\}"),
        ("\\boxed{(1,2)}", "1,2"),
        ("\\boxed{1,2,2}", "1,2"),
        ("\\boxed{1.41421356}", "\\sqrt{2}"),
        ("\\boxed{3.14159265}", "\\pi"),
        ("\\boxed{y=5}", "x=5"),
        ("\\boxed{13/10}", "1 2/10"),
        ("\\boxed{3.14159265x}", "\\pi x"),
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
