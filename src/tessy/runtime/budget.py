"""Limits on the time and tokens of a run, over all of its sessions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Spending(NamedTuple):
    """Wall-clock seconds of sessions, and tokens they generated (each model's own), kept or not."""

    seconds: float = 0.0
    tokens: int = 0


@dataclass(slots=True)
class BudgetTracker:
    """Limits of a run (None: no limit), and its usage over all sessions.

    Attributes:
        hours: Maximum wall-clock hours.
        tokens: Maximum generated tokens, kept or not.
        before: Usage of earlier sessions.
        empty: The limit that ended the run, and the usage; None if no limit did.
    """

    hours: float | None = None
    tokens: int | None = None
    clock: Callable[[], float] = time.monotonic
    before: Spending = field(default_factory=Spending)
    empty: str | None = None
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def limited(self) -> bool:
        """Whether any limit is set."""
        return self.hours is not None or self.tokens is not None

    @property
    def seconds(self) -> float:
        """Seconds since the session started."""
        return self.clock() - self._started

    def exceeded(self, tokens: int) -> str | None:
        """Return the limit that is reached once this session has generated ``tokens``, or None.

        Example: ``"budget_tokens: 1,003 of 1,000 generated tokens are spent"``.
        """
        hours = (self.before.seconds + self.seconds) / 3600
        tokens += self.before.tokens
        if self.hours is not None and hours >= self.hours:
            return f"budget_hours: {hours:.4g} of {self.hours:.4g} hours are spent"
        if self.tokens is not None and tokens >= self.tokens:
            return f"budget_tokens: {tokens:,} of {self.tokens:,} generated tokens are spent"
        return None
