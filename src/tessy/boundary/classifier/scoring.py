"""What the reader of windows asks of a classifier, and what it counts; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Scores = Sequence[float]  # P(style) of what follows each token
StateT = TypeVar("StateT")


class WindowModel(Protocol[StateT]):
    """A classifier that reads windows bit by bit; ``StateT`` is what it keeps of one.

    Attributes:
        step_tokens: How much of a window it reads in one pass.
    """

    step_tokens: int

    def new(self) -> StateT:
        """A window of which nothing has been read."""
        ...

    def reserve(self, state: StateT, count: int) -> bool:
        """Make room for ``count`` more tokens; False if there is none."""
        ...

    def rollback(self, state: StateT, length: int) -> int:
        """Keep the first ``length`` tokens at most, free the rest; how many it still knows."""
        ...

    def forward(self, members: Sequence[tuple[StateT, Sequence[int]]]) -> list[Scores]:
        """Read new tokens (at least one each, room reserved): P(style) of what follows each."""
        ...


@dataclass(slots=True)
class PredictorStats:
    """What a predictor has done since it was loaded.

    Attributes:
        views: Views judged.
        passes: Forward passes.
        windows: Windows in all passes together; divided by ``passes``, the mean batch.
        largest_batch: Most windows in one pass.
        tokens: Tokens read; those read twice count twice.
        padding: Padding tokens computed beside them.
        openings: Windows begun: a sample's first, one for each move of the anchor, and those that
            a rollback brought back.
        cache_drops: Windows whose keys and values made room for others.
    """

    views: int = 0
    passes: int = 0
    windows: int = 0
    largest_batch: int = 0
    tokens: int = 0
    padding: int = 0
    openings: int = 0
    cache_drops: int = 0

    def passed(self, lengths: Sequence[int]) -> None:
        """Count a pass over windows with so many new tokens each."""
        self.passes += 1
        self.windows += len(lengths)
        self.largest_batch = max(self.largest_batch, len(lengths))
        self.tokens += sum(lengths)
        self.padding += max(lengths) * len(lengths) - sum(lengths)
