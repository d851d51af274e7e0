"""The protocol of boundary predictors, which decide where one author's words end.

A predictor reads the shared text with its own tokenizer, never an author's token ids. It scores
*units*: the text between two consecutive edges (:mod:`tessy.core.edges`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

STYLE_THRESHOLD = 0.5  # P(style) at or above this is style


class UnitScore(NamedTuple):
    """P(style) over the predictor tokens of one unit: first token, minimum and maximum."""

    first: float
    lowest: float
    highest: float


# A NamedTuple: one is created per token, and a frozen dataclass is slower to construct.
class PredictionRequest(NamedTuple):
    """The input of a boundary predictor.

    Attributes:
        key: Key of the sample; a predictor may cache by it.
        kept: The shared thinking text, or its beginning.
        edges: Ascending offsets (chars) that end with ``len(text)``; the units to score lie between
            neighbours. A single edge requests only ``next_style``.
        final: No text follows, so every unit must be decided.
        own_from: Text before this offset (chars) was written by the other author. Predictors with
            tokens score a unit that begins before it by its tokens from this offset.
        drafted: Text after ``kept``; not concatenated in the event loop, where a long text would
            cost time for every token.
    """

    key: str
    kept: str
    edges: tuple[int, ...]
    final: bool = False
    own_from: int = 0
    drafted: str = ""

    @property
    def text(self) -> str:
        """The shared thinking text up to the last settled edge, drafted units included."""
        return self.kept + self.drafted

    @property
    def units(self) -> tuple[str, ...]:
        """The texts of the units to score."""
        text = self.text
        return tuple(text[start:end] for start, end in pairwise(self.edges))


@dataclass(frozen=True, slots=True)
class Prediction:
    """The output of a boundary predictor for a :class:`PredictionRequest`.

    Attributes:
        units: Scores of the first units of the request. Shorter than the request's units if the
            predictor leaves the last ones undecided (never for a final request).
        next_style: P(style) of what follows ``request.text``; None if the predictor cannot score
            text before it is written.
    """

    units: tuple[UnitScore, ...]
    next_style: float | None = None


class BoundaryPredictor(Protocol):
    """Scores how likely each unit is style.

    With ``sees_next`` (a causal token classifier, ``lookahead`` 0), the output at the last token is
    the class of the next token, before it is written. Other predictors read written units and may
    leave the last ``lookahead`` of them undecided until more text is written.
    """

    name: str
    sees_next: bool
    lookahead: int

    def predict(self, request: PredictionRequest) -> Awaitable[Prediction]:
        """Score the units of ``request``, without blocking the event loop; can be cancelled.

        Raises:
            EngineUnavailable: It cannot answer now, e.g. for lack of memory.
            EngineRefused: It failed on this request.
        """

    def release(self, key: str) -> None:
        """Drop the cache of the finished sample ``key``."""

    async def aclose(self) -> None:
        """Stop worker threads."""
