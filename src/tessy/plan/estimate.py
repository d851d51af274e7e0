"""Estimates for a whole file from a few samples, with prediction intervals (pure).

The pilot is a random draw from the problems of the file. The estimate for the remaining samples is
the pilot's mean times their number. The 95 % interval covers the draw and the remaining samples:

    R · (mean ± t · s · √(1/n + 1/m))

with R remaining samples, s the standard deviation between the n units drawn, and m remaining units.
A unit is a problem, because samples of a problem are correlated; once every problem has a sample, a
unit is a sample.

Source: the prediction interval of Student's t: Hahn & Meeker, Statistical Intervals, 1991, 4.7.
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
    """Number of remaining samples, of problems that have some, and of problems without a sample."""

    samples: int
    problems: int
    unseen: int


def to_come(values: Iterable[tuple[str, float]], scope: Scope) -> RemainingWork | None:
    """Estimate the sum of a measure over the remaining samples; None with too few units.

    ``values`` are the problem and the non-negative measure of every ended sample.
    """
    by_problem: dict[str, list[float]] = defaultdict(list)
    for problem, value in values:
        by_problem[problem].append(value)
    if scope.unseen:
        units, more = [fmean(group) for group in by_problem.values()], scope.problems
    else:
        units, more = [v for group in by_problem.values() for v in group], scope.samples
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

    ``failed`` is the problem of every ended sample, and whether it failed.
    """
    estimate = share(Case(problem, float(bad)) for problem, bad in failed)
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return RemainingWork(estimate.value, estimate.low, estimate.high)


def wall(work: RemainingWork, slots: float, longest: float) -> RemainingWork:
    """Return the wall-clock seconds of ``work`` (summed over samples) with ``slots`` in flight.

    All slots are busy until the last sample starts, so the time is between ``work / slots`` and one
    sample more (Graham's bound for list scheduling), which takes up to ``longest`` seconds. The
    interval covers both; the estimate is in the middle.
    """
    busy = work.times(1 / slots)
    return RemainingWork(busy.value + longest / 2, busy.low, busy.high + longest)
