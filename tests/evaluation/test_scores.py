"""Scores, against known values and the implementations of inspect_ai."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.statistics import wilson
from tessy.evaluation.scores import (
    LEAST_DIFFERING,
    paired_difference,
    pass_at_k,
    score,
)
from tests.support.evaluations import evaluations


def test_pass_at_k_has_the_known_values():
    found = [pass_at_k(10, 3, k) for k in (1, 2, 5, 10)]
    assert found == pytest.approx([0.3, 0.53333333, 0.91666667, 1.0])
    assert pass_at_k(4, 0, 2) == 0
    with pytest.raises(ValueError, match="needs at least 5 responses, got 4"):
        pass_at_k(4, 4, 5)


def test_a_score_is_a_mean_over_problems_of_means_over_responses():
    found = score(evaluations({"a": "++--", "b": "+"}))
    assert found.pass_1 is not None
    assert found.pass_1.value == 0.75  # not 3 of 5
    assert (found.n, found.problems, found.pass_k) == (5, 2, {})


def test_truncated_and_missing_answers_are_not_correct_and_judge_errors_do_not_count():
    found = score(evaluations({"a": "+t", "b": "nj", "c": "jj", "d": "lm"}))
    assert found.pass_1 is not None
    assert found.pass_1.value == pytest.approx((0.5 + 0 + 0) / 3)
    assert (found.n, found.problems) == (5, 3)
    assert found.outcomes == {
        "correct": 1, "truncated": 2, "no_answer": 2, "judge_error": 3,
    }  # fmt: skip
    assert found.reasons == {
        "budget": 1, "no_final_answer": 1, "repetition": 1, "eos_in_thinking": 1,
    }  # fmt: skip


def test_one_response_per_problem_has_wilsons_interval():
    found = score(evaluations({str(n): "+" if n % 4 else "-" for n in range(40)}))
    assert found.pass_1 is not None
    variance = 0.75 * 0.25 / 39  # unbiased
    low, high = wilson(0.75, 0.75 * 0.25 / variance)
    assert (found.pass_1.low, found.pass_1.high) == pytest.approx((low, high))


def test_no_rows_and_one_problem_have_no_interval():
    assert score([]).pass_1 is None
    single = score(evaluations({"a": "+-"}))
    assert single.stderr is None
    assert single.pass_1 is not None
    assert single.pass_1.value == 0.5


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[bool]]:
    draw = random.Random(5)
    return {f"p{n}": [draw.random() < n / 20 for _ in range(6)] for n in range(20)}


def test_scores_equal_those_of_inspect_ai(drawn: dict[str, list[bool]]):
    from inspect_ai.scorer import SampleScore, Score, mean, pass_at, stderr

    letters = {name: "".join("+" if value else "-" for value in v) for name, v in drawn.items()}
    ours = score(evaluations(letters))
    theirs: Any = [
        SampleScore(score=Score(value=float(value)), sample_metadata={"problem": name})
        for name, values in drawn.items()
        for value in values
    ]
    assert ours.pass_1 is not None
    assert ours.pass_1.value == pytest.approx(mean()(theirs))
    assert ours.stderr == pytest.approx(stderr(cluster="problem")(theirs))
    assert list(ours.pass_k) == [2, 4, 6]
    for k, estimate in ours.pass_k.items():
        reduced = [
            pass_at(k)([Score(value=float(value)) for value in values]).as_float()
            for values in drawn.values()
        ]
        assert estimate.value == pytest.approx(sum(reduced) / len(reduced))
        assert estimate.n == estimate.questions == len(reduced)


def test_a_difference_is_paired_by_problem():
    first = {str(n): [n < 10] for n in range(40)}
    second = {str(n): [n < 18] for n in range(2, 50)}
    found = paired_difference(first, second)
    assert found is not None
    assert (found.problems, found.better, found.worse) == (38, 8, 0)
    assert found.value == pytest.approx(8 / 38)
    assert not found.within_noise
    # The standard error of the mean difference is 0.067.
    assert found.low == pytest.approx(8 / 38 - 1.96 * 0.067, abs=0.03)
    assert found.high == pytest.approx(8 / 38 + 1.96 * 0.067, abs=0.03)
    assert paired_difference(first, second) == found  # seeded
    assert paired_difference(first, {"x": [True]}) is None


def test_few_differing_problems_are_within_noise():
    first = {str(n): [False] for n in range(6)}
    for differing in range(7):
        second = {str(n): [n < differing] for n in range(6)}
        found = paired_difference(first, second)
        assert found is not None
        assert found.within_noise == (differing < LEAST_DIFFERING)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=8))
def test_a_run_does_not_differ_from_itself(values: list[list[bool]]):
    run = {str(n): value for n, value in enumerate(values)}
    found = paired_difference(run, run)
    assert found is not None
    assert found[:5] == (0, 0, 0, 0, 0)
    assert found.within_noise
    assert not math.isnan(found.value)
