"""The pilot: which samples it makes, and what shows while they are made."""

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
    """Return samples for a pilot: of each problem one, then another one, in an order of chance.

    A problem's place in the order depends on its id and the seed only, so a larger pilot holds
    the smaller one.

    Args:
        problems: The whole file.
        rounds: Samples per problem that the run will make.
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


def measured_load(progress: ThroughputMonitor, made: Sequence[PilotSample]) -> Load | None:
    """Return how busy the servers were in a session; None if it generated nothing.

    Args:
        progress: Counters of the session.
        made: All samples that have ended.
    """
    pace = progress.pace()
    seconds = sum(one.seconds for one in made)
    if pace is None or not seconds:
        return None
    alone = sum(sum(one.generated.values()) for one in made) / seconds
    return Load(
        most=progress.most_in_flight,
        usual=pace.in_flight,
        # A sample does not get faster in company; where it seems so, that is chance.
        slowdown=max(1.0, alone / pace.tokens_per_second),
        samples=progress.ended,
    )


def saved_load(plan: Path) -> Load | None:
    """Return the load in the plan.json of an earlier pilot; None without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return Load(**json.loads(plan.read_bytes())["load"])
    return None
