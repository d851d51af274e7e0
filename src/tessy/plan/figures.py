"""The figures of a plan, computed from the pilot (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tessy.core.records import AUTHORS, Author
from tessy.plan.estimate import (
    CONFIDENCE,
    MIN_UNITS,
    RemainingWork,
    Scope,
    failing_share,
    to_come,
    wall,
)
from tessy.plan.pilot import Load, PilotSample

MUCH_MORE = 1.1  # ratio of samples in flight, run to pilot, that causes a warning


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a plan: value of the ended samples, and estimate for the remaining ones."""

    so_far: float
    to_come: RemainingWork

    @property
    def whole(self) -> float:
        """Value or estimate for the whole file."""
        return self.so_far + self.to_come.value

    def to_json(self) -> dict[str, float]:
        """Return the entry of plan.json."""
        value, low, high = self.to_come
        parts = {"so_far": self.so_far, "to_come": value, "low": low, "high": high}
        return {name: round(part, 4) for name, part in (parts | {"whole": self.whole}).items()}


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Inputs of a plan.

    Attributes:
        samples: Ended samples.
        slots: Samples that the run will have in flight.
        wall_seconds: Wall-clock seconds of the run's sessions.
        journal_bytes: Size of the journal after the pilot.
        drawn: Whether the samples are exactly a random draw from the file.
        counted: Tokens generated in this session by the servers' own count, and by ours, for the
            roles whose servers no other client used.
    """

    samples: Sequence[PilotSample]
    scope: Scope
    slots: int
    load: Load | None
    wall_seconds: float
    journal_bytes: int
    drawn: bool
    counted: Mapping[Author, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Estimates for the whole file.

    Attributes:
        inputs: Inputs.
        hours: Wall-clock hours, if more samples in flight do not slow each other down.
        at_most: Remaining hours if more samples in flight bring no speedup; None if the run has no
            more in flight than the pilot.
        figures: Other figures by name: ``requests.student``, ``kept.answer`` …; only a plan of
            strategy ``restyle`` has ``scored``.
        failure_share: Share of failed samples, in [0, 1].
        journal: Maximum bytes of the journal during the run.
        reasons: Number of failures by reason.
    """

    inputs: PlanInputs
    hours: Figure
    at_most: float | None
    figures: Mapping[str, Figure]
    failure_share: RemainingWork
    journal: float
    reasons: Mapping[str, int]

    @property
    def problems(self) -> int:
        """Number of problems with an ended sample."""
        return len({sample.problem for sample in self.inputs.samples})

    def to_json(self) -> dict[str, Any]:
        """Return the content of plan.json."""
        inputs = self.inputs
        return {
            "confidence": CONFIDENCE,
            "samples": {
                "ended": len(inputs.samples),
                "questions": self.problems,
                "to_come": inputs.scope.samples,
            },
            "hours": self.hours.to_json() | {"at_most": self.at_most},
            "in_flight": inputs.slots,
            "load": inputs.load and asdict(inputs.load),
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "failure_share": self.failure_share._asdict(),
            "failures_by_reason": dict(self.reasons),
            "journal_bytes": round(self.journal),
        }


def make_plan(inputs: PlanInputs) -> Plan | None:
    """Compute a plan; None if too few samples finished for an interval."""
    samples, scope = inputs.samples, inputs.scope
    reasons = Counter(sample.reason for sample in samples if sample.reason is not None)
    if scope.samples and len(samples) - reasons.total() < MIN_UNITS:
        return None
    problems = [sample.problem for sample in samples]
    figures: dict[str, Figure] = {}
    for name, values in _measures(samples).items():
        estimate = to_come(zip(problems, values, strict=True), scope)
        if estimate is None:
            return None
        figures[name] = Figure(sum(values), estimate)
    share = failing_share((sample.problem, sample.reason is not None) for sample in samples)
    if share is None:
        return None
    figures["failures"] = Figure(reasons.total(), share.times(scope.samples))
    hours, at_most = _hours(inputs, figures.pop("seconds").to_come)
    most = inputs.load.most if inputs.load else 0
    journal = inputs.journal_bytes * max(1.0, inputs.slots / most if most else 1.0)
    return Plan(inputs, hours, at_most, figures, share, journal, dict(reasons.most_common()))


def _measures(samples: Sequence[PilotSample]) -> dict[str, list[float]]:
    measures: dict[str, list[float]] = {"seconds": [s.seconds for s in samples]}
    for author in AUTHORS:
        measures[f"requests.{author}"] = [s.requests[author] for s in samples]
        measures[f"generated.{author}"] = [s.generated[author] for s in samples]
    for part in (*AUTHORS, "answer"):
        measures[f"kept.{part}"] = [s.kept[part] for s in samples]
    measures["generated"] = [float(sum(s.generated.values())) for s in samples]
    measures["bytes"] = [s.size for s in samples]
    if any(s.scored is not None for s in samples):
        measures["scored"] = [s.scored or 0 for s in samples]
    return measures


def _hours(inputs: PlanInputs, work: RemainingWork) -> tuple[Figure, float | None]:
    """Return wall-clock hours, and remaining ones if more samples in flight bring no speedup."""
    so_far = inputs.wall_seconds / 3600
    if not inputs.scope.samples:
        return Figure(so_far, RemainingWork(0.0, 0.0, 0.0)), None
    load = inputs.load
    slow = load.slowdown if load else 1.0
    work = work.times(slow)
    longest = slow * max(sample.seconds for sample in inputs.samples)
    slots = min(inputs.slots, inputs.scope.samples)
    hours = Figure(so_far, wall(work, slots, longest).times(1 / 3600))
    seconds = sum(sample.seconds for sample in inputs.samples)
    average = seconds / inputs.wall_seconds if inputs.wall_seconds else 0.0  # of all sessions
    usual = max(1.0, load.usual if load else average)
    if slots <= MUCH_MORE * usual:
        return hours, None
    return hours, wall(work, usual, longest).value / 3600
