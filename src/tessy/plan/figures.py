"""The figures of a plan, computed from the pilot (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessy.core.records import AUTHORS
from tessy.plan.estimate import (
    CONFIDENCE,
    MIN_UNITS,
    RemainingWork,
    Scope,
    failing_share,
    to_come,
    wall,
)
from tessy.plan.pilot import Load
from tessy.plan.rows import PilotSample

MUCH_MORE = 1.1  # ratio of samples in flight, run to pilot, that causes a warning


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a plan.

    Attributes:
        so_far: Value of the ended samples.
        to_come: Estimate for the remaining samples.
    """

    so_far: float
    to_come: RemainingWork

    @property
    def whole(self) -> float:
        """Value or estimate for the whole file."""
        return self.so_far + self.to_come.value

    def to_json(self) -> dict[str, float]:
        """Return the entry of plan.json."""
        come = self.to_come
        named = {"so_far": self.so_far, "to_come": come.value, "low": come.low, "high": come.high}
        return {name: round(value, 4) for name, value in (named | {"whole": self.whole}).items()}


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Inputs of a plan.

    Attributes:
        made: Ended samples.
        scope: Remaining work.
        slots: Samples that the run will have in flight.
        load: Load of the servers; None if unknown.
        wall_seconds: Wall-clock seconds of the run's sessions.
        journal_bytes: Size of the journal after the pilot.
        drawn: Whether the samples are exactly a random draw from the file.
    """

    made: Sequence[PilotSample]
    scope: Scope
    slots: int
    load: Load | None
    wall_seconds: float
    journal_bytes: int
    drawn: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Estimates for the whole file.

    Attributes:
        given: Inputs.
        hours: Wall-clock hours, if more samples in flight do not slow each other down.
        at_most: Remaining hours if more samples in flight bring no speedup; None if the run has no
            more in flight than the pilot.
        figures: Other figures by name: ``requests.student``, ``kept.answer`` …
        failure_share: Share of failed samples, in [0, 1].
        journal: Maximum bytes of the journal during the run.
        reasons: Number of failures by reason.
    """

    given: PlanInputs
    hours: Figure
    at_most: float | None
    figures: Mapping[str, Figure]
    failure_share: RemainingWork
    journal: float
    reasons: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the content of plan.json."""
        given = self.given
        load = given.load
        return {
            "confidence": CONFIDENCE,
            "samples": {
                "ended": len(given.made),
                "questions": len({one.question for one in given.made}),
                "to_come": given.scope.samples,
            },
            "hours": self.hours.to_json() | {"at_most": self.at_most},
            "in_flight": given.slots,
            "load": load and {name: getattr(load, name) for name in load.__slots__},
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "failure_share": self.failure_share._asdict(),
            "failures_by_reason": dict(self.reasons),
            "journal_bytes": round(self.journal),
        }


def make_plan(given: PlanInputs) -> Plan | None:
    """Compute a plan; None if too few samples finished for an interval."""
    finished = sum(one.reason is None for one in given.made)
    if given.scope.samples and finished < MIN_UNITS:
        return None
    figures: dict[str, Figure] = {}
    for name, values in _measures(given.made).items():
        come = to_come(zip(_questions(given), values, strict=True), given.scope)
        if come is None:
            return None
        figures[name] = Figure(sum(values), come)
    bad = [one.reason is not None for one in given.made]
    failing = failing_share(zip(_questions(given), bad, strict=True))
    if failing is None:
        return None
    figures["failures"] = Figure(sum(bad), failing.times(given.scope.samples))
    hours, at_most = _hours(given, figures.pop("seconds").to_come)
    most = given.load.most if given.load else 0
    journal = given.journal_bytes * max(1.0, given.slots / most if most else 1.0)
    reasons = Counter(one.reason for one in given.made if one.reason is not None)
    return Plan(given, hours, at_most, figures, failing, journal, dict(reasons.most_common()))


def _questions(given: PlanInputs) -> list[str]:
    return [one.question for one in given.made]


def _measures(made: Sequence[PilotSample]) -> dict[str, list[float]]:
    """Return the values of each measure, in the order of ``made``."""
    measures: dict[str, list[float]] = {"seconds": [one.seconds for one in made]}
    for author in AUTHORS:
        measures[f"requests.{author}"] = [one.requests[author] for one in made]
    for part in (*AUTHORS, "answer"):
        measures[f"kept.{part}"] = [one.kept[part] for one in made]
    for author in AUTHORS:
        measures[f"generated.{author}"] = [one.generated[author] for one in made]
    measures["generated"] = [float(sum(one.generated.values())) for one in made]
    measures["bytes"] = [one.size for one in made]
    return measures


def _hours(given: PlanInputs, work: RemainingWork) -> tuple[Figure, float | None]:
    """Return wall-clock hours, and remaining ones if more samples in flight bring no speedup."""
    samples, load = given.scope.samples, given.load
    so_far = given.wall_seconds / 3600
    if not samples:
        return Figure(so_far, RemainingWork(0.0, 0.0, 0.0)), None
    slow = load.slowdown if load else 1.0
    work = work.times(slow)
    longest = slow * max(one.seconds for one in given.made)
    slots = min(given.slots, samples)
    come = wall(work, slots, longest).times(1 / 3600)
    usual = max(1.0, load.usual if load else _average_in_flight(given))
    if slots <= MUCH_MORE * usual:
        return Figure(so_far, come), None
    return Figure(so_far, come), wall(work, usual, longest).value / 3600


def _average_in_flight(given: PlanInputs) -> float:
    """Return the average over all sessions, including their starts and ends."""
    seconds = sum(one.seconds for one in given.made)
    return seconds / given.wall_seconds if given.wall_seconds else 0.0
