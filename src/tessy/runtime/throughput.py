"""How fast samples got on while the pilot was in full swing (pure: time is an argument)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tessy.core.records import AUTHORS, Author
from tessy.runtime.progress import ProgressState

FULL_SHARE = 0.75  # of the most samples in flight: what still counts as full swing


class Pace(NamedTuple):
    """How fast one sample among many got on.

    Attributes:
        in_flight: Samples in flight meanwhile, on average.
        tokens_per_second: Tokens generated for one of them in a second, kept or not.
    """

    in_flight: float
    tokens_per_second: float


class ThroughputMonitor(ProgressState):
    """Counts what a :class:`ProgressState` does, and at how many samples in flight it came.

    A pilot empties out: its last samples have the servers to themselves and say little of a run
    that keeps them busy. Only the time near the most samples in flight is therefore looked at.
    """

    def __init__(
        self,
        total: int,
        *,
        clock: Callable[[], float],
        now: float,
        done: int = 0,
        failed: int = 0,
        authors: Sequence[Author] = AUTHORS,
    ) -> None:
        """Start as a :class:`ProgressState` does; ``clock`` tells seconds on the same clock."""
        super().__init__(total, now=now, done=done, failed=failed, authors=authors)
        self._clock = clock
        self._seen = now
        self._seconds: Counter[int] = Counter()  # by samples in flight; values are floats
        self._tokens: Counter[int] = Counter()

    def started(self, key: str) -> None:
        """A sample is in flight."""
        self._pass()
        super().started(key)

    def drafted(self, author: Author, tokens: int) -> None:
        """``author`` generated ``tokens``, whether they are kept or not."""
        self._pass()
        self._tokens[self.in_flight] += tokens
        super().drafted(author, tokens)

    def finished(self, key: str) -> None:
        """A sample is finished."""
        self._pass()
        super().finished(key)

    def failed(self, key: str, reason: str) -> None:
        """A sample was given up."""
        self._pass()
        super().failed(key, reason)

    def waiting(self, text: str | None) -> None:
        """Record why the run is waiting; None when it continues."""
        self._pass()
        super().waiting(text)

    def _pass(self) -> None:
        now = self._clock()
        if self.waiting_for is None:
            # Counter adds floats as well as it adds integers; its stubs know only the latter.
            self._seconds[self.in_flight] += now - self._seen  # type: ignore[assignment]
        self._seen = now

    def pace(self) -> Pace | None:
        """Return the pace near the most samples in flight; None if nothing was generated there."""
        full = [n for n in self._seconds if n > 0 and n >= FULL_SHARE * self.most_in_flight]
        seconds = sum(self._seconds[n] for n in full)
        shared = sum(n * self._seconds[n] for n in full)
        tokens = sum(self._tokens[n] for n in full)
        if not tokens or shared <= 0:
            return None
        return Pace(shared / seconds, tokens / shared)
