import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.statistics import (
    Case,
    crossed_mean,
    crossed_share,
    mean,
    quantile,
    share,
    t95,
    wilson,
)


def test_wilson_agrees_with_the_textbook():
    assert wilson(0.8, 50) == pytest.approx((0.6696, 0.8876), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_without_weight_there_is_no_estimate():
    assert share([]) is None
    assert mean([Case("q", 0, 0)]) is None


def test_independent_cases_have_about_wilsons_interval():
    draw = random.Random(0)
    cases = [Case(f"q{i}", draw.random() < 0.7) for i in range(4000)]
    got = share(cases)
    assert got is not None
    assert got.n == got.questions == 4000
    assert (got.low, got.high) == pytest.approx(wilson(got.value, 4000), abs=1e-3)


def test_identical_cases_of_one_problem_count_as_one():
    cases = [Case(f"q{i}", i < 14) for i in range(20) for _ in range(50)]
    got = share(cases)
    assert got is not None
    assert got.value == 0.7
    assert got.n == 1000
    assert (got.low, got.high) == pytest.approx(wilson(0.7, 19), abs=1e-9)


def test_without_spread_the_effective_size_is_the_number_of_problems():
    got = share([Case(f"q{i % 8}", 1) for i in range(400)])
    assert got is not None
    assert (got.value, got.low, got.high) == (1.0, *wilson(1.0, 8))


def test_a_mean_has_the_standard_error_of_the_problem_means():
    values = [1.0, 2.0, 4.0, 5.0]
    got = mean(Case(f"q{i}", value) for i, value in enumerate(values) for _ in range(10))
    assert got is not None
    error = math.sqrt(sum((v - 3) ** 2 for v in values) / 3 / 4)
    assert got.value == 3
    assert (got.low, got.high) == pytest.approx((3 - 1.96 * error, 3 + 1.96 * error), abs=1e-3)
    alone = mean([Case("q", 2), Case("q", 4)])
    assert alone is not None
    assert (alone.value, alone.low, alone.high) == (3, None, None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_an_interval_contains_its_value(rows):
    got = share(Case(f"q{q}", min(a, w), w) for q, a, w in rows)
    if got is None:
        assert not any(w for _, _, w in rows)
    else:
        assert got.low is not None
        assert got.high is not None
        assert 0 <= got.low <= got.value <= got.high <= 1


@pytest.mark.parametrize(
    ("degrees", "value"),
    [
        (1, 12.7062),
        (1.5, 6.0167),
        (2, 4.3027),
        (3, 3.1824),
        (9, 2.2622),
        (60, 2.0003),
        (99, 1.9842),
        (10**6, 1.95997),
    ],
)
def test_the_quantile_of_students_t(degrees: float, value: float):
    assert t95(degrees) == pytest.approx(value, rel=1e-4)


@given(st.lists(st.integers(0, 50_000), min_size=1), st.integers(1, 100))
def test_quantile_is_the_nearest_rank(values: list[int], percent: int) -> None:
    ordered = sorted(values)
    found = quantile(ordered, percent / 100)
    within = Fraction(sum(value <= found for value in ordered), len(ordered))
    below = Fraction(sum(value < found for value in ordered), len(ordered))
    assert within >= Fraction(percent, 100) - Fraction(1, 10**9)
    assert below < Fraction(percent, 100) + Fraction(1, 10**9)


def test_median_and_p80_of_three_values() -> None:
    assert quantile([1, 5, 9], 0.5) == 5
    assert quantile([1, 5, 9], 0.8) == 9


def test_one_run_of_many_questions_is_a_mean_of_independent_cases():
    draw = random.Random(1)
    row = [float(draw.random() < 0.7) for _ in range(400)]
    crossed = crossed_share([row])
    alone = share(Case(f"q{i}", x) for i, x in enumerate(row))
    assert alone is not None
    assert crossed.value == alone.value
    assert (crossed.low, crossed.high) == pytest.approx((alone.low, alone.high), abs=1e-3)
    assert (crossed.spread, crossed.runs, crossed.questions) == (None, 1, 400)


def test_equal_runs_are_no_more_certain_than_one():
    row = [float(i % 3 == 0) for i in range(60)]
    one, many = crossed_mean([row]), crossed_mean([row] * 5)
    assert (many.low, many.high) == pytest.approx((one.low, one.high))
    assert many.spread == 0


def test_the_parts_of_a_crossed_variance():
    # Runs differ by 0.2, questions by 0.4, and nothing else.
    table = [[0.1, 0.5], [0.3, 0.7]]
    found = crossed_mean(table)
    assert found.value == pytest.approx(0.4)
    assert found.spread == pytest.approx(math.sqrt(0.02))
    variance = 0.02 / 2 + 0.08 / 2
    degrees = variance**2 / ((0.02 / 2) ** 2 + (0.08 / 2) ** 2)
    assert found.high - found.value == pytest.approx(t95(degrees) * math.sqrt(variance))


def test_crossed_intervals_contain_the_truth_as_often_as_promised():
    draw = random.Random(2)
    covered, trials = 0, 300
    for _ in range(trials):
        runs = [draw.gauss(0, 0.08) for _ in range(4)]
        questions = [draw.gauss(0, 0.3) for _ in range(40)]
        table = [[0.5 + r + q + draw.gauss(0, 0.3) for q in questions] for r in runs]
        found = crossed_mean(table)
        covered += found.low <= 0.5 <= found.high
    assert 0.91 <= covered / trials <= 0.995


def test_a_share_without_spread_has_an_interval_of_its_questions():
    found = crossed_share([[1.0] * 50] * 3)
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 50))
