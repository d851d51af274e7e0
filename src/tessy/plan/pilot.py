"""The pilot: which samples it makes, and what shows while they are made."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from tessy.core.records import Author, Key, Problem
from tessy.core.seeds import derive_seed
from tessy.plan.gauge import ThroughputMonitor
from tessy.plan.rows import PilotSample, read_made
from tessy.runtime.admission import MIN_LENGTHS, Claim, KvAdmission, KvGate
from tessy.runtime.progress import ProgressState
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.sample import SampleJob


def draw(problems: Sequence[Problem], rounds: int, count: int, seed: int) -> frozenset[Key]:
    """Return samples for a pilot: of each question one, then another one, in an order of chance.

    A question's place in the order depends on its id and the seed only, so a larger pilot holds
    the smaller one.

    Args:
        problems: The whole file.
        rounds: Samples per question that the run will make.
        count: Samples wanted; all are taken if there are fewer.
        seed: The run's.
    """
    shuffled = sorted(problems, key=lambda problem: derive_seed(seed, "pilot", problem.id))
    every = ((problem.id, sample) for sample in range(rounds) for problem in shuffled)
    return frozenset(islice(every, count))


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the servers were while samples were made.

    Attributes:
        most: The most samples in flight at a time.
        usual: Samples in flight near that, on average.
        slowdown: How many times as long as in its row a sample takes with ``usual`` in flight.
        samples: Samples that this was measured on.
    """

    most: int
    usual: float
    slowdown: float
    samples: int


class PilotMonitor:
    """Observes a pilot, and determines how many samples the run will have in flight.

    Attributes:
        slots: Samples the run will have in flight; None before the pilot has ended.
    """

    def __init__(self, paths: RunPaths, jobs: Sequence[SampleJob]) -> None:
        """Nothing was made yet; ``jobs`` is every sample of the whole run."""
        self.slots: int | None = None
        self._paths, self._jobs = paths, jobs
        self._gauge: ThroughputMonitor | None = None

    def watch(
        self, total: int, *, now: float, done: int, failed: int, authors: Sequence[Author]
    ) -> ProgressState:
        """Return what counts the pilot's progress; takes what :class:`ProgressState` does."""
        self._gauge = ThroughputMonitor(
            total, clock=time.monotonic, now=now, done=done, failed=failed, authors=authors
        )
        return self._gauge

    def measure(self, admission: KvAdmission, gate: KvGate[SampleJob]) -> None:
        """Count how many of the samples to come would be let in at a time.

        Args:
            admission: Nothing is in flight.
            gate: Lets samples in, of which ``admission`` decides.
        """
        made = read_made(self._paths, {job.key for job in self._jobs})
        _teach(admission, [one.length for one in made if one.length is not None])
        there = {one.key for one in made}
        come = (job for job in self._jobs if job.key not in there)
        self.slots = _admitted(come, gate)

    def load(self, made: Sequence[PilotSample]) -> Load | None:
        """Return how busy the servers were; None if this process generated nothing."""
        pace = self._gauge.pace() if self._gauge else None
        seconds = sum(one.seconds for one in made)
        if self._gauge is None or pace is None or not seconds:
            return None
        alone = sum(sum(one.generated.values()) for one in made) / seconds
        return Load(
            most=self._gauge.most_in_flight,
            usual=pace.in_flight,
            # A sample does not get faster in company; where it seems so, that is chance.
            slowdown=max(1.0, alone / pace.tokens_per_second),
            samples=self._gauge.ended,
        )


def _teach(admission: KvAdmission, lengths: Sequence[int]) -> None:
    """Let ``admission`` know the lengths, often enough to be believed."""
    times = max(len(lengths), MIN_LENGTHS) if lengths else 0
    for number, tokens in enumerate(islice(cycle(lengths), times)):
        key = f"pilot {number}"
        admission.try_admit(Claim(key, {}), {})
        admission.finished(key, tokens)


def _admitted(jobs: Iterable[SampleJob], gate: KvGate[SampleJob]) -> int:
    count = 0
    for job in jobs:
        if not gate.try_admit(job):
            break
        count += 1
    return count


def saved_load(plan: Path) -> Load | None:
    """Return the load in the plan.json of an earlier pilot; None without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return Load(**json.loads(plan.read_bytes())["load"])
    return None
