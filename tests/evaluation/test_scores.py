"""Scores against inspect_ai's implementations, known values, and the coverage of intervals."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from inspect_ai.scorer import SampleScore, Score, mean, stderr
from inspect_ai.scorer._reducer.reducer import pass_at as inspect_pass_at

from tessy.core.records import EvaluationOutcome
from tessy.evaluation.scores import (
    JudgedSample,
    paired_difference,
    pass_at,
    problem_means,
    score,
)


def sampled(seed: int, problems: int = 40, samples: int = 6) -> list[JudgedSample]:
    """Return samples of problems of different difficulty."""
    rng = Random(seed)
    rows = []
    for number in range(problems):
        chance = rng.random()
        for _ in range(samples):
            outcome: EvaluationOutcome = "correct" if rng.random() < chance else "wrong"
            rows.append(JudgedSample(f"p{number}", outcome))
    return rows


def inspect_scores(rows: list[JudgedSample]) -> Any:
    return [
        SampleScore(
            score=Score(value=float(row.outcome == "correct")),
            sample_metadata={"problem": row.problem},
        )
        for row in rows
    ]


@pytest.mark.parametrize("seed", range(4))
def test_mean_and_clustered_error_are_those_of_inspect_ai(seed):
    rows = sampled(seed)
    result = score(rows)
    assert result.pass_1 is not None
    assert result.pass_1.value == pytest.approx(mean()(inspect_scores(rows)))
    expected = stderr(cluster="problem")(inspect_scores(rows))
    assert result.standard_error == pytest.approx(expected, rel=1e-9)
    assert (result.n, result.problems) == (240, 40)


@pytest.mark.parametrize("correct", range(7))
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_pass_at_k_is_that_of_inspect_ai(k, correct):
    reduce = inspect_pass_at(k)
    scores = [Score(value=float(number < correct)) for number in range(6)]
    assert pass_at(k, 6, correct) == pytest.approx(reduce(scores).value)


def test_pass_at_k_has_the_known_values():
    values = [pass_at(k, 10, 3) for k in (1, 2, 5, 10)]
    assert values == pytest.approx([0.3, 0.5333, 0.9167, 1.0], abs=1e-4)


def test_pass_at_k_goes_up_to_the_fewest_samples_of_a_problem():
    rows = sampled(0, problems=3, samples=8)
    assert list(score(rows).pass_k) == [1, 2, 4, 8]
    del rows[-1]
    assert list(score(rows).pass_k) == [1, 2, 4]


def test_each_problem_counts_once_however_many_samples_it_has():
    rows = [JudgedSample("a", "correct")] * 9 + [JudgedSample("b", "wrong")]
    result = score(rows)
    assert result.pass_1 is not None
    assert result.pass_1.value == 0.5


def test_only_a_failed_judge_leaves_a_sample_unscored():
    outcomes: list[EvaluationOutcome] = [
        "correct", "wrong", "no_answer", "truncated", "judge_error",
    ]  # fmt: skip
    rows = [JudgedSample(outcome, outcome) for outcome in outcomes]
    result = score(rows)
    assert result.pass_1 is not None
    assert result.pass_1.value == 0.25
    assert (result.n, result.problems, result.outcomes["judge_error"]) == (4, 4, 1)
    assert problem_means(rows).keys() == {"correct", "wrong", "no_answer", "truncated"}
    unjudged = score([JudgedSample("a", "judge_error")])
    assert (unjudged.pass_1, unjudged.n) == (None, 0)
    assert score([]).standard_error is None


def test_a_difference_is_paired_by_problem():
    before = {str(n): n % 2 for n in range(100)} | {"only before": 1.0}
    after = {str(n): 1.0 if n % 10 == 0 else n % 2 for n in range(100)} | {"only after": 0.0}
    difference = paired_difference(before, after)
    assert difference is not None
    assert difference.value == pytest.approx(0.1)
    assert (difference.problems, difference.better, difference.worse) == (100, 10, 0)
    # Unpaired, a difference of 10 points of 100 problems would be within noise.
    assert 0.04 <= difference.low <= 0.06
    assert 0.14 <= difference.high <= 0.18
    assert difference.verdict == "better"
    back = paired_difference(after, before)
    assert back is not None
    assert back.verdict == "worse"
    assert paired_difference(before, before).verdict == "within noise"  # type: ignore[union-attr]
    assert paired_difference({"a": 1.0}, {"b": 1.0}) is None


def test_the_interval_contains_the_true_difference_as_often_as_it_says():
    hits = 0
    for seed in range(60):
        rng = Random(seed)
        before = {str(n): float(rng.random() < 0.5) for n in range(60)}
        after = {key: float(rng.random() < 0.5) for key in before}
        difference = paired_difference(before, after)
        assert difference is not None
        hits += difference.low <= 0 <= difference.high
    assert 52 <= hits <= 60
