"""Comparison of outputs and results (the rules of LiveCodeBench)."""

from __future__ import annotations

import pytest

from tessy.evaluation.programs.comparison import output_difference, result_difference

SAME = {
    "identical": ("1\n2\n", "1\n2\n"),
    "no line end": ("1\n2", "1\n2\n\n"),
    "white space around lines": ("  1 \r\n2\t", "1\n2"),
    "numbers of another type": ("3.0", "3"),
    "exponents": ("1e3 -0", "1000 0"),
    "lists of numbers with other white space": ("1   2", "1 2"),
    "large integers": ("50000000000000001", "50000000000000001"),
}
DIFFERENT = {
    "text": ("yes", "YES"),
    "words with other white space": ("a  b", "a b"),
    "a nearly equal number": ("0.333333333", "0.333333334"),
    "large integers": ("50000000000000000", "50000000000000001"),
    "not a number": ("nan", "nan2"),
    "NaN as numbers": ("nan 1.0", "nan 1"),
    "signalling NaN": ("sNaN 1", "sNaN 1.0"),
    "more numbers": ("1 2", "1 2 2"),
    "one line too few": ("1", "1\n2"),
    "one line too many": ("1\n\n2", "1\n2"),
    "nothing": ("", "1"),
}


@pytest.mark.parametrize("name", SAME)
def test_outputs_that_are_the_same(name: str):
    assert output_difference(*SAME[name]) is None


@pytest.mark.parametrize("name", DIFFERENT)
def test_outputs_that_differ(name: str):
    assert output_difference(*DIFFERENT[name])


def test_the_difference_names_the_line_and_is_short():
    assert output_difference("1\n2", "1\n3") == "line 2: '2' instead of '3'"
    assert output_difference("1", "1\n3") == "1 lines instead of 2"
    assert len(output_difference("1" * 10_000, "2" * 10_000) or "") < 200


@pytest.mark.parametrize(
    ("result", "expected", "same"),
    [
        ("[1, 2]", [1, 2], True),
        ("2.0", 2, True),
        ("true", True, True),
        ("1", True, True),
        ("null", None, True),
        ('"2"', 2, False),
        ("[[1], 2]", [[1], 2], True),
        ("[1, 2]", [2, 1], False),
        ("0.30000000000000004", 0.3, False),
        ("1", [1, 2, 3], False),
        ("NaN", 1, False),
        ("no JSON", 1, False),
        ("[" * 100_000, 1, False),
        ("1" * 10_000, 1, False),
    ],
)
def test_results_are_compared_as_values(result: str, expected: object, same: bool):
    assert (result_difference(result, expected) is None) == same
