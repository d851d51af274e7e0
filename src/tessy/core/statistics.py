"""Estimates with 95 % confidence intervals, clustered by problem (pure).

Segments of one problem are correlated, so variance is computed between problems: the variance of a
ratio Σy/Σx is that of its residuals, summed within each problem. A share gets Wilson's interval
with the effective sample size; a mean gets ±1.96 standard errors.

Where several trained models answer the same questions, both are sampled: the variance of the mean
has a part of each (two crossed random factors).

Source: E. B. Wilson, 1927; W. G. Cochran, Sampling Techniques, 1977, 9A and 6.3; L. Kish, Survey
Sampling, 1965 (design effect); Abramowitz & Stegun, 26.7 (Student's t); S. R. Searle et al.,
Variance Components, 1992, 4.3 (crossed factors); F. E. Satterthwaite, 1946.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

Z95 = 1.959964


class Case(NamedTuple):
    """One observation of a ratio."""

    cluster: str
    amount: float  # contribution to the numerator
    weight: float = 1.0  # contribution to the denominator


class Estimate(NamedTuple):
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float | None  # end of the interval; None with a single problem
    high: float | None
    n: float  # sum of weights: the number of cases (words, drafts, tokens …)
    questions: int  # number of problems (clusters)


class CrossedEstimate(NamedTuple):
    """A mean over runs and questions, with a 95 % interval for other runs and questions.

    Attributes:
        value: The mean.
        low: Lower end of the interval.
        high: Upper end.
        spread: Standard deviation of the runs' means; None with one run, whose interval is for
            other questions only.
        runs: Number of runs, such as trainings with different seeds.
        questions: Number of questions, the same in every run.
    """

    value: float
    low: float
    high: float
    spread: float | None
    runs: int
    questions: int


def share(cases: Iterable[Case]) -> Estimate | None:
    """Estimate a ratio in [0, 1] with Wilson's interval; None if the weights sum to zero."""
    total = _total(cases)
    if total is None:
        return None
    value, n, questions, variance = total
    # Without any spread, only the problems can be assumed to be independent.
    effective = float(questions)
    if variance and 0 < value < 1:
        effective = min(n, value * (1 - value) / variance)
    low, high = wilson(value, effective)
    return Estimate(value, low, high, n, questions)


def mean(cases: Iterable[Case]) -> Estimate | None:
    """Estimate a non-negative mean with ±1.96 standard errors; None if the weights sum to zero."""
    total = _total(cases)
    if total is None:
        return None
    value, n, questions, variance = total
    if variance is None:
        return Estimate(value, None, None, n, questions)
    reach = Z95 * math.sqrt(variance)
    return Estimate(value, max(0.0, value - reach), value + reach, n, questions)


def crossed_mean(table: Sequence[Sequence[float]]) -> CrossedEstimate:
    """Estimate the mean of ``table`` (runs × questions, at least 1 × 2) by Student's t."""
    value, variance, degrees, spread = _crossed(table)
    reach = t95(degrees) * math.sqrt(variance)
    return CrossedEstimate(value, value - reach, value + reach, spread, len(table), len(table[0]))


def crossed_share(table: Sequence[Sequence[float]]) -> CrossedEstimate:
    """Estimate the share of ``table`` as :func:`crossed_mean`, with Wilson's interval."""
    value, variance, degrees, spread = _crossed(table)
    questions = len(table[0])
    # Without any spread, only the questions can be assumed to be independent.
    effective = float(questions)
    if variance and 0 < value < 1:
        effective = value * (1 - value) / (variance * (t95(degrees) / Z95) ** 2)
    low, high = wilson(value, effective)
    return CrossedEstimate(value, low, high, spread, len(table), questions)


def _crossed(table: Sequence[Sequence[float]]) -> tuple[float, float, float, float | None]:
    """Return mean, its variance, the degrees of freedom, and the spread of the runs."""
    runs, questions = len(table), len(table[0])
    by_run = [math.fsum(row) / questions for row in table]
    by_question = [math.fsum(column) / runs for column in zip(*table, strict=True)]
    value = math.fsum(by_run) / runs
    of_questions = _squares(by_question, value) / (questions - 1) / questions
    if runs == 1:
        return value, of_questions, questions - 1, None
    of_runs = _squares(by_run, value) / (runs - 1) / runs
    both = math.fsum(
        (x - run - question + value) ** 2
        for row, run in zip(table, by_run, strict=True)
        for x, question in zip(row, by_question, strict=True)
    ) / ((runs - 1) * (questions - 1) * runs * questions)
    # Both parts contain the variance of a single answer, which must be counted once.
    variance = max(of_runs + of_questions - both, of_runs, of_questions)
    degrees = questions - 1.0
    if variance:
        parts = of_runs**2 / (runs - 1) + of_questions**2 / (questions - 1)
        degrees = max(variance**2 / parts, min(runs, questions) - 1.0)
    return value, variance, degrees, math.sqrt(of_runs * runs)


def _squares(values: Sequence[float], middle: float) -> float:
    return math.fsum((value - middle) ** 2 for value in values)


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share ``value`` of ``n`` independent cases."""
    z2 = Z95 * Z95
    middle = (value + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z95 / (1 + z2 / n) * math.sqrt(value * (1 - value) / n + z2 / (4 * n * n))
    # Rounding must not exclude the value itself.
    return max(0.0, min(value, middle - reach)), min(1.0, max(value, middle + reach))


def t95(degrees: float) -> float:
    """Return Student's two-sided 95 % quantile for at least one degree of freedom.

    With t = √degrees · tan φ, the density of φ is proportional to cos φ to the power degrees - 1,
    which is integrated in small steps.
    """
    step = min(math.pi / 2, 12 / math.sqrt(degrees)) / 2000  # beyond 12 deviations there is nothing
    areas = list(accumulate(math.cos((n + 0.5) * step) ** (degrees - 1) for n in range(2000)))
    target = 0.95 * areas[-1]
    last = bisect_left(areas, target)
    before = areas[last - 1] if last else 0.0
    angle = step * (last + (target - before) / (areas[last] - before))
    return math.sqrt(degrees) * math.tan(angle)


def quantile(ordered: Sequence[int], q: float) -> int:
    """Return the ``q``-quantile of sorted values: a share ``q`` of them is at most the result."""
    rank = math.ceil(q * len(ordered))
    return ordered[max(rank, 1) - 1]


def _total(cases: Iterable[Case]) -> tuple[float, float, int, float | None] | None:
    """Return ratio, sum of weights, number of clusters, and variance (None for one cluster)."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for case in cases:
        if case.weight:
            sums[case.cluster][0] += case.amount
            sums[case.cluster][1] += case.weight
    if not sums:
        return None
    weight = math.fsum(x for _, x in sums.values())
    value = math.fsum(y for y, _ in sums.values()) / weight
    count = len(sums)
    if count < 2:
        return value, weight, count, None
    spread = math.fsum((y - value * x) ** 2 for y, x in sums.values())
    return value, weight, count, count / (count - 1) * spread / weight**2
