"""Time and tokens that a run has used, in this session and in earlier ones."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tessy.core.records import Author, Cost, Key
from tessy.runtime.budget import Budget, Spending
from tessy.storage import jsonl
from tessy.storage.journal import InFlight
from tessy.storage.run_paths import RunPaths


def by_author(counts: Mapping[Any, int]) -> dict[Author, int]:
    """Return both authors' counts, 0 where there are none."""
    return {"student": counts.get("student", 0), "teacher": counts.get("teacher", 0)}


@dataclass
class UsageMeter:
    """Requests, tokens and time of a sample, over all of its attempts.

    Attributes:
        requests: Requests sent, by role.
        drafted: Tokens generated for the thinking and for texts that the row does not keep, by
            role, in its own tokens.
        seconds: Wall-clock seconds by part.
    """

    requests: Counter[str] = field(default_factory=Counter)
    drafted: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def to_json(self) -> dict[str, Mapping[str, float]]:
        """Serialize for the journal."""
        return {
            "requests": dict(self.requests),
            "drafted": dict(self.drafted),
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Mapping[str, Any]]) -> UsageMeter:
        """Deserialize from the journal."""
        seconds = defaultdict(float, saved["seconds"])
        return cls(Counter(saved["requests"]), Counter(saved["drafted"]), seconds)

    def cost(self) -> Cost:
        """Return the cost for the row."""
        return Cost(
            requests=by_author(self.requests),
            seconds={part: round(value, 4) for part, value in sorted(self.seconds.items())},
        )


@dataclass(slots=True)
class BudgetTracker:
    """The budget of a run and its usage, over all sessions.

    Attributes:
        budget: The limits.
        clock: Monotonic clock, in seconds.
        started: Start of the session, on that clock.
        before: Usage of earlier sessions.
        empty: The limit that ended the run, and the usage; None if no limit did.
    """

    budget: Budget
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    before: Spending = field(default_factory=Spending)
    empty: str | None = None

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds since the session started."""
        return self.clock() - self.started

    def exceeded(self, tokens: int) -> str | None:
        """Return the limit that is reached once this session has generated ``tokens``, or None."""
        seconds, before = self.seconds, self.before
        return self.budget.exceeded(Spending(before.seconds + seconds, before.tokens + tokens))


def spent_before(paths: RunPaths, in_flight: Mapping[Key, InFlight]) -> Spending:
    """Return the usage of earlier sessions: wall-clock time of summaries, tokens of all rows.

    A sample that failed and was tried again has a row of each, and both count. A killed session
    left no summary, so its time is unknown.

    Args:
        paths: The run.
        in_flight: Samples in its journal that have no row yet.

    Raises:
        InputError: A row cannot be read; names file and line.
    """
    rows = (
        jsonl.row(path, line)
        for path in (*paths.row_files(), *paths.failure_files())
        for line in jsonl.read_lines(path)
    )
    tokens = sum(map(_of_row, rows)) + sum(map(_of_flight, in_flight.values()))
    return Spending(wall_seconds(paths.summary), tokens)


def wall_seconds(summary: Path) -> float:
    """Return the wall-clock seconds of all sessions that left a summary; 0 without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or not one of ours
        return float(json.loads(summary.read_bytes())["seconds"]["wall"])
    return 0.0


def _of_row(row: Mapping[str, Any]) -> int:
    tokens = row["tokens"]
    return int(sum(tokens["drafted"].values()) + tokens["answer"])


def _of_flight(flight: InFlight) -> int:
    if flight.state is None:
        return 0
    state = json.loads(flight.state)
    answer = len(state["answer"]["ids"]) if state["answer"] else 0
    return int(sum(state["meter"]["drafted"].values()) + answer)
