"""Estimates for a whole file from a few samples, with prediction intervals (pure).

A file has a fixed number of problems, and the pilot is a random draw of them. The estimate for the
remaining samples is the pilot's mean times their number. The 95 % interval covers the randomness of
the draw and of the remaining samples:

    R · (mean ± t · s · √(1/n + 1/m))

with R remaining samples, s the standard deviation between the n units drawn, and m remaining units.
A unit is a problem, because samples of a problem are correlated; once every problem has a sample, a
unit is a sample.

Source: the prediction interval of Student's t, e.g. Hahn & Meeker, Statistical Intervals, 1991,
4.7.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean, stdev
from typing import NamedTuple

from tessy.core.statistics import Case, share, t95

CONFIDENCE = 0.95
MIN_UNITS = 5  # fewer do not suffice for a standard deviation


class RemainingWork(NamedTuple):
    """Estimate for the remaining samples, with its 95 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> RemainingWork:
        """Return the estimate and interval multiplied by ``factor``."""
        return RemainingWork(*(factor * part for part in self))


class Scope(NamedTuple):
    """Size of the remaining work.

    Attributes:
        samples: Number of remaining samples.
        questions: Number of problems with remaining samples.
        unseen: Number of problems without a sample.
    """

    samples: int
    questions: int
    unseen: int


def to_come(values: Iterable[tuple[str, float]], scope: Scope) -> RemainingWork | None:
    """Estimate the sum of a measure over the remaining samples; None with too few units.

    Args:
        values: Problem and non-negative measure of every ended sample.
        scope: The remaining work.
    """
    by_question: dict[str, list[float]] = defaultdict(list)
    for question, value in values:
        by_question[question].append(value)
    if scope.unseen:
        units, more = [fmean(group) for group in by_question.values()], scope.questions
    else:
        units, more = [v for group in by_question.values() for v in group], scope.samples
    if not scope.samples:
        return RemainingWork(0.0, 0.0, 0.0)
    count = len(units)
    if count < MIN_UNITS:
        return None
    mean = fmean(units)
    reach = t95(count - 1) * stdev(units) * math.sqrt(1 / count + 1 / more)
    return RemainingWork(mean, max(0.0, mean - reach), mean + reach).times(scope.samples)


def failing_share(failed: Iterable[tuple[str, bool]]) -> RemainingWork | None:
    """Return the share of failed samples, with Wilson's interval; None without samples.

    Args:
        failed: Problem of every ended sample, and whether it failed.
    """
    found = share(Case(question, float(bad)) for question, bad in failed)
    if found is None or found.low is None or found.high is None:
        return None
    return RemainingWork(found.value, found.low, found.high)


def wall(work: RemainingWork, slots: float, longest: float) -> RemainingWork:
    """Return the wall-clock seconds of ``work`` with ``slots`` samples in flight.

    All slots are busy until the last sample starts, so the time is between ``work / slots`` and one
    sample more (Graham's bound for list scheduling). The interval covers both; the estimate is in
    the middle.

    Args:
        work: Seconds summed over the remaining samples.
        slots: Samples in flight; at most the number of remaining samples.
        longest: Seconds of the longest ended sample.
    """
    busy = work.times(1 / slots)
    return RemainingWork(busy.value + longest / 2, busy.low, busy.high + longest)
