"""The interface between the window reader and a classifier, and its counters; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Scores = Sequence[float]  # P(style) of what follows each token
StateT = TypeVar("StateT")


class WindowModel(Protocol[StateT]):
    """A classifier that reads windows incrementally; ``StateT`` is its state of one window.

    It reads at most ``step_tokens`` tokens of a window in one pass.
    """

    step_tokens: int

    def new(self) -> StateT:
        """Return the state of an empty window."""

    def reserve(self, state: StateT, count: int) -> bool:
        """Reserve memory for ``count`` more tokens; return False if there is not enough."""

    def rollback(self, state: StateT, length: int) -> int:
        """Free all but at most the first ``length`` tokens; return the number kept."""

    def forward(self, members: Sequence[tuple[StateT, Sequence[int]]]) -> list[Scores]:
        """Read the new tokens of each window; return P(style) of what follows each token.

        Each member has at least one new token, and its memory is reserved.
        """


@dataclass(slots=True)
class PredictorStats:
    """Counters of a predictor since it was loaded."""

    requests: int = 0  # requests answered
    passes: int = 0  # forward passes
    windows: int = 0  # summed over all passes; divided by `passes`, the mean batch size
    largest_batch: int = 0  # largest number of windows in one pass
    tokens: int = 0  # tokens read; a token read twice counts twice
    openings: int = 0  # windows opened: for a sample, a move of its anchor, and after a rollback
    cache_drops: int = 0  # windows whose keys and values were evicted

    def count_pass(self, lengths: Sequence[int]) -> None:
        """Count a pass over windows with ``lengths`` new tokens."""
        self.passes += 1
        self.windows += len(lengths)
        self.largest_batch = max(self.largest_batch, len(lengths))
        self.tokens += sum(lengths)
