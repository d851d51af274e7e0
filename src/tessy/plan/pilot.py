"""The pilot: the draw of its samples, their cost, and the measured load of the servers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tessy.core.records import AUTHORS, Author, Key, Problem
from tessy.core.seeds import derive_seed
from tessy.runtime.throughput import ThroughputMonitor
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.token_counts import generated_tokens


def draw(problems: Sequence[Problem], rounds: int, count: int, seed: int) -> frozenset[Key]:
    """Return ``count`` samples: one per problem in random order, then a second one, and so on.

    The order depends only on the problems' ids and the seed, so a larger pilot contains a smaller
    one. ``rounds`` is the number of samples per problem.
    """
    shuffled = sorted(problems, key=lambda problem: derive_seed(seed, "pilot", problem.id))
    every = ((problem.id, sample) for sample in range(rounds) for problem in shuffled)
    return frozenset(islice(every, count))


@dataclass(frozen=True, slots=True)
class PilotSample:
    """An ended sample.

    Attributes:
        key: Key of the sample.
        reason: Reason of a failure; None if the sample is finished.
        seconds: Wall-clock seconds over all attempts.
        requests: Requests sent, by role.
        kept: Tokens in the training data, by part (``student`` and ``teacher`` of the thinking,
            ``answer``), in the student's tokens; 0 for a failure.
        generated: Tokens generated, kept or not, by author.
        size: Bytes of the row.
        scored: Tokens whose likelihood the student computed; None unless the row is restyled.
    """

    key: Key
    reason: str | None
    seconds: float
    requests: Mapping[Author, int]
    kept: Mapping[str, int]
    generated: Mapping[Author, int]
    size: int
    scored: int | None = None

    @property
    def problem(self) -> str:
        """Id of the problem."""
        return self.key[0]


def read_pilot_samples(paths: RunPaths, keys: Collection[Key]) -> list[PilotSample]:
    """Return the last row of each key in ``keys``; a finished row has precedence over a failure.

    Its cost is that of all rows of the key.
    """
    samples: dict[Key, PilotSample] = {}
    for path in (*paths.row_files(), *paths.failure_files()):
        for line in jsonl.read_lines(path):
            key = jsonl.row_key(path, line)
            sample = _pilot_sample(key, jsonl.row(path, line), len(line.content))
            before = samples.get(key)
            if key not in keys:
                continue
            if before is None:
                samples[key] = sample
            elif before.reason or not sample.reason:
                samples[key] = _with_cost_of(sample, before)
            else:
                samples[key] = _with_cost_of(before, sample)
    return list(samples.values())


def _with_cost_of(sample: PilotSample, other: PilotSample) -> PilotSample:
    return replace(
        sample,
        seconds=sample.seconds + other.seconds,
        requests={a: sample.requests[a] + other.requests[a] for a in AUTHORS},
        generated={a: sample.generated[a] + other.generated[a] for a in AUTHORS},
        size=sample.size + other.size,
        scored=None if sample.scored is None else sample.scored + (other.scored or 0),
    )


def _pilot_sample(key: Key, row: Mapping[str, Any], size: int) -> PilotSample:
    tokens, reason = row["tokens"], row.get("reason")
    parts = {part: int(tokens[part]) for part in (*AUTHORS, "answer")}
    return PilotSample(
        key=key,
        reason=reason,
        seconds=row["seconds"],
        requests=row["cost"]["requests"],
        kept=dict.fromkeys(parts, 0) if reason else parts,
        generated=generated_tokens(row),
        size=size,
        scored=row["restyle"]["scored_tokens"] if row.get("restyle") else None,
    )


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


def measured_load(progress: ThroughputMonitor, samples: Sequence[PilotSample]) -> Load | None:
    """Return the load in a session, compared with all ended ``samples``; None without tokens."""
    pace = progress.pace()
    seconds = sum(sample.seconds for sample in samples)
    if pace is None or not seconds:
        return None
    alone = sum(sum(sample.generated.values()) for sample in samples) / seconds
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
