"""Throughput of samples while the pilot is at full load (pure: time is an argument)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tessy.core.records import AUTHORS, Author
from tessy.runtime.progress import ProgressState

FULL_SHARE = 0.75  # of the most samples in flight: what counts as full load


class Pace(NamedTuple):
    """Average samples in flight, and tokens generated for one of them per second, kept or not."""

    in_flight: float
    tokens_per_second: float


class ThroughputMonitor(ProgressState):
    """Counts time and tokens of a :class:`ProgressState` by the number of samples in flight.

    At the end of a pilot a few samples have the servers to themselves, unlike in a run that keeps
    them busy. Therefore only the time near the most samples in flight is used.
    """

    def __init__(
        self,
        total: int,
        *,
        clock: Callable[[], float],
        done: int = 0,
        reasons: Mapping[str, int] | None = None,
        authors: Sequence[Author] = AUTHORS,
    ) -> None:
        """Start as a :class:`ProgressState` does; ``clock`` is monotonic, in seconds."""
        now = clock()
        super().__init__(total, now=now, done=done, reasons=reasons, authors=authors)
        self._clock = clock
        self._seen = now
        self._seconds: defaultdict[int, float] = defaultdict(float)  # by samples in flight
        self._tokens: defaultdict[int, int] = defaultdict(int)

    def drafted(self, author: Author, tokens: int) -> None:
        """Record ``tokens`` that ``author`` generated, kept or not."""
        self._before_change()
        self._tokens[self.in_flight] += tokens
        super().drafted(author, tokens)

    def unseen(self, author: Author, tokens: int) -> None:
        """Record ``tokens`` that ``author`` generated and that were not received."""
        self._tokens[self.in_flight] += tokens
        super().unseen(author, tokens)

    def _before_change(self) -> None:
        now = self._clock()
        if self.waiting_for is None:
            self._seconds[self.in_flight] += now - self._seen
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
