"""Limits on the time and tokens of a run, over all of its sessions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Spending(NamedTuple):
    """Resources used by a run.

    Attributes:
        seconds: Wall-clock seconds of its sessions.
        tokens: Generated tokens, kept or not, each model's in its own tokens.
    """

    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run.

    Attributes:
        hours: Maximum wall-clock hours; None: no limit.
        tokens: Maximum generated tokens, kept or not; None: no limit.
    """

    hours: float | None = None
    tokens: int | None = None

    @property
    def limited(self) -> bool:
        """Whether any limit is set."""
        return self.hours is not None or self.tokens is not None

    def exceeded(self, spending: Spending) -> str | None:
        """Return a message on the limit that ``spending`` has reached; None if below all limits.

        Example: ``"budget_tokens: 1,003 of 1,000 generated tokens are spent"``.
        """
        if self.hours is not None and spending.seconds >= self.hours * 3600:
            used = spending.seconds / 3600
            return f"budget_hours: {used:.4g} of {self.hours:.4g} hours are spent"
        if self.tokens is not None and spending.tokens >= self.tokens:
            return (
                f"budget_tokens: {spending.tokens:,} of {self.tokens:,} generated tokens are spent"
            )
        return None


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
