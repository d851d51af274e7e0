"""From a few samples to a whole file, with an interval (pure).

A file is a fixed number of problems, and the pilot a random draw of them. What is still to come is
the mean of the pilot times the number of samples to come; its 95 % interval has to cover the chance
of the draw and the chance in what comes:

    R · (mean ± t · s · √(1/n + 1/m))

with R samples to come, s the standard deviation between n units that are there, and m units to
come. Units are problems, whose samples resemble each other; samples, once every problem has one.

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
MIN_UNITS = 5  # fewer say nothing of their spread


class RemainingWork(NamedTuple):
    """What the rest of the file will take: a figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> RemainingWork:
        """Return the same in another unit."""
        return RemainingWork(*(factor * part for part in self))


class Scope(NamedTuple):
    """What is there, and what is still to come.

    Attributes:
        samples: Samples to come.
        questions: Problems with samples to come.
        unseen: Problems that have no sample yet.
    """

    samples: int
    questions: int
    unseen: int


def to_come(values: Iterable[tuple[str, float]], scope: Scope) -> RemainingWork | None:
    """Estimate the sum of a measure over the samples to come; None if too few are there.

    Args:
        values: The problem and the measure (not negative) of every sample that has ended.
        scope: What is still to come.
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
    """Return the share of samples that fail, with Wilson's interval; None without samples.

    Args:
        failed: The problem of every sample that has ended, and whether it failed.
    """
    found = share(Case(question, float(bad)) for question, bad in failed)
    if found is None or found.low is None or found.high is None:
        return None
    return RemainingWork(found.value, found.low, found.high)


def wall(work: RemainingWork, slots: float, longest: float) -> RemainingWork:
    """Wall-clock seconds of ``work`` with ``slots`` samples in flight.

    All slots are busy until the last sample starts, so the time is at least ``work / slots`` and at
    most one sample more (Graham's bound for list scheduling). The interval spans both, and the
    figure is halfway.

    Args:
        work: Seconds summed over the samples to come.
        slots: Samples in flight; no more than there are to come.
        longest: Seconds of the longest sample that has ended.
    """
    busy = work.times(1 / slots)
    return RemainingWork(busy.value + longest / 2, busy.low, busy.high + longest)
