"""Where the reference of a problem comes from."""

from __future__ import annotations

import pytest

from tessy.answers.references import reference_of


@pytest.mark.parametrize(
    ("row", "reference"),
    [
        ({"reference": "7", "answer": "8"}, "7"),
        ({"answer": "3 + 4 = 7\n#### 7"}, "7"),
        ({"reference": " ", "answer": 8}, "8"),
        ({"reference": None, "answer": 0.5}, "0.5"),
        ({"reference": True, "answer": ["8"]}, None),
        ({}, None),
        ({"answer": "We sort the list, since " + "it is long " * 20}, None),
        ({"reference": "a way " * 90 + "\n#### 7\n"}, "7"),
        ({"reference": "#### 7\nso \\boxed{8} at last"}, "8"),
        ({"reference": "the mark #### 7 of the \\boxed{8}"}, "8"),
        ({"reference": "<think>\\boxed{7}? no</think>8"}, "8"),
        ({"answer": 2, "choices": ["a", "b", "c"]}, None),
        ({"answer": 2.0, "options": ["a", "b", "c"]}, None),
        ({"answer": "b", "options": ["a", "b", "c"]}, "b"),
        ({"answer": "巴黎"}, "巴黎"),
        ({"answer": "我们先把这些数字排序然后再相加"}, None),
        ({"answer": "先排序，再相加"}, None),
        ({"reference": "#### Step 1\n" + "We sort. " * 30, "answer": 7}, "7"),
        ({"solution": "We find \\boxed{\\frac12} at last."}, "\\frac12"),
        ({"solution": "7"}, None),
        ({"final_answer": "\\pi"}, "\\pi"),
        ({"answer": "proof", "solution": "\\boxed{7}"}, None),
        ({"answer": "notfound"}, None),
        ({"reference": "Sure! That makes nine (9)."}, None),
        ({"answer": "It is the largest one."}, None),
        ({"answer": "Paris."}, "Paris."),
        ({"answer": "x = 5 \\text{ or } x = 3"}, "x = 5 \\text{ or } x = 3"),
        ({"answer": "the Treaty of Versailles"}, "the Treaty of Versailles"),
    ],
)
def test_a_reference_is_a_final_answer(row, reference):
    assert reference_of(row) == reference


def test_a_named_field_is_the_only_one_read():
    row = {"gold": "5", "reference": "7", "solution": "9"}
    assert reference_of(row, "gold") == "5"
    assert reference_of(row, "solution") == "9"
    assert reference_of(row, "other") is None
