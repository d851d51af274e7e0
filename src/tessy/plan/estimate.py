"""From a few samples to a whole file, with an interval (pure).

A file is a fixed number of questions, and the pilot a random draw of them. What is still to come is
the mean of the pilot times the number of samples to come; its 95 % interval has to cover the chance
of the draw and the chance in what comes:

    R · (mean ± t · s · √(1/n + 1/m))

with R samples to come, s the standard deviation between n units that are there, and m units to
come. Units are questions, whose samples resemble each other; samples, once every question has one.

Source: the prediction interval of Student's t, e.g. Hahn & Meeker, Statistical Intervals, 1991,
4.7.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random
from statistics import fmean, stdev
from typing import NamedTuple

from tessy.statistics import Case, share, t95

CONFIDENCE = 0.95
MIN_UNITS = 5  # fewer say nothing of their spread
_ROUNDS = 80  # schedules played through


class ToCome(NamedTuple):
    """What the rest of the file will take: a figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> ToCome:
        """The same in another unit."""
        return ToCome(*(factor * part for part in self))


class Scope(NamedTuple):
    """What is there, and what is still to come.

    Attributes:
        samples: Samples to come.
        questions: Questions with samples to come.
        unseen: Questions that have no sample yet.
    """

    samples: int
    questions: int
    unseen: int


def to_come(values: Iterable[tuple[str, float]], scope: Scope) -> ToCome | None:
    """Estimate the sum of a measure over the samples to come; None if too few are there.

    Args:
        values: The question and the measure (not negative) of every sample that has ended.
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
        return ToCome(0.0, 0.0, 0.0)
    count = len(units)
    if count < MIN_UNITS:
        return None
    mean = fmean(units)
    reach = t95(count - 1) * stdev(units) * math.sqrt(1 / count + 1 / more)
    return ToCome(mean, max(0.0, mean - reach), mean + reach).times(scope.samples)


def failing_share(failed: Iterable[tuple[str, bool]]) -> ToCome | None:
    """The share of samples that fail, with Wilson's interval; None without samples.

    Args:
        failed: The question of every sample that has ended, and whether it failed.
    """
    found = share(Case(question, float(bad)) for question, bad in failed)
    if found is None or found.low is None or found.high is None:
        return None
    return ToCome(found.value, found.low, found.high)


def tail(durations: Sequence[float], samples: int, slots: int, seed: int) -> ToCome:
    """How many seconds more than ``work / slots`` go by because samples do not end together.

    Plays schedules through: whenever a slot is free the next sample starts, with a duration drawn
    from ``durations``, which are drawn anew for each schedule as another pilot might have had them.
    Only the last four rounds of slots matter. None is longer than the longest that is there, so
    with many more slots than that many samples the tail comes out short.

    Args:
        durations: Seconds of the samples that are there.
        samples: Samples to come.
        slots: Samples in flight.
        seed: Of the draw.
    """
    slots = min(slots, samples)
    if slots < 1 or not durations:
        return ToCome(0.0, 0.0, 0.0)
    rng = Random(seed)
    extra = []
    for _ in range(_ROUNDS):
        pilot = rng.choices(durations, k=len(durations))
        drawn = rng.choices(pilot, k=min(samples, 4 * slots))
        free = [0.0] * slots
        for seconds in drawn:
            heapq.heapreplace(free, free[0] + seconds)
        extra.append(max(free) - math.fsum(drawn) / slots)
    extra.sort()
    rare = round(_ROUNDS * (1 - CONFIDENCE) / 2)
    return ToCome(fmean(extra), extra[rare], extra[-1 - rare])


def wall(work: ToCome, durations: Sequence[float], samples: int, slots: int, seed: int) -> ToCome:
    """Wall-clock seconds of ``work`` (seconds summed over samples) with ``slots`` in flight.

    The ends of both intervals are added, so together they cover rather more than 95 %.
    """
    late = tail(durations, samples, slots, seed)
    pairs = zip(work.times(1 / min(slots, samples)), late, strict=True)
    return ToCome(*(part + more for part, more in pairs))
