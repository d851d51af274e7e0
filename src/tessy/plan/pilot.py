"""The pilot: the draw of its samples, and the measured load of the servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tessy.core.records import Key, Problem
from tessy.core.seeds import derive_seed
from tessy.plan.rows import PilotSample
from tessy.runtime.throughput import ThroughputMonitor


def draw(problems: Sequence[Problem], rounds: int, count: int, seed: int) -> frozenset[Key]:
    """Return the samples of a pilot: one per problem in random order, then a second one, and so on.

    The order depends only on the problems' ids and the seed, so a larger pilot contains a smaller
    one.

    Args:
        problems: All problems of the file.
        rounds: Samples per problem of the run.
        count: Size of the pilot; reduced to the number of samples if that is smaller.
        seed: Seed of the run.
    """
    shuffled = sorted(problems, key=lambda problem: derive_seed(seed, "pilot", problem.id))
    every = ((problem.id, sample) for sample in range(rounds) for problem in shuffled)
    return frozenset(islice(every, count))


@dataclass(frozen=True, slots=True)
class Load:
    """Load of the servers during a session.

    Attributes:
        most: Maximum number of samples in flight.
        usual: Average number of samples in flight while near the maximum.
        slowdown: Duration of a sample with ``usual`` samples in flight, relative to its row.
        samples: Number of samples in the measurement.
    """

    most: int
    usual: float
    slowdown: float
    samples: int


def measured_load(progress: ThroughputMonitor, made: Sequence[PilotSample]) -> Load | None:
    """Return the load of the servers in a session; None if it generated nothing.

    Args:
        progress: Counters of the session.
        made: All ended samples.
    """
    pace = progress.pace()
    seconds = sum(one.seconds for one in made)
    if pace is None or not seconds:
        return None
    alone = sum(sum(one.generated.values()) for one in made) / seconds
    return Load(
        most=progress.most_in_flight,
        usual=pace.in_flight,
        # A sample is never faster with others in flight; a lower value is noise.
        slowdown=max(1.0, alone / pace.tokens_per_second),
        samples=progress.ended,
    )


def saved_load(plan: Path) -> Load | None:
    """Return the load in the plan.json of an earlier pilot; None without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return Load(**json.loads(plan.read_bytes())["load"])
    return None
