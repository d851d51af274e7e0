"""The protocol of boundary predictors, which decide where one author's words end.

A predictor reads the shared text, never an author's token ids: it has its own tokenizer. It scores
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
        edges: Ascending offsets (chars) into ``text``; the units to score lie between neighbours.
            The last one is ``len(text)``. With a single edge there are no units, and only
            ``next_style`` is requested.
        final: No text follows, so every unit must be decided.
        own_from: Text before this offset (chars) was written by the other author. A unit that
            begins before it (a hand-over inside a word) is scored by its tokens from this offset,
            by predictors that have tokens.
        drafted: Text after ``kept``. Kept separate so that the event loop need not concatenate a
            long text for every token; the predictor may do it in its own thread.
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
        units: Scores of the first units of the request, in order. Shorter than the request's units
            if the predictor leaves the last ones undecided (never for a final request).
        next_style: P(style) of what follows ``request.text``; None if the predictor cannot score
            text before it is written.
    """

    units: tuple[UnitScore, ...]
    next_style: float | None = None


class BoundaryPredictor(Protocol):
    """Scores how likely each unit is style.

    Two kinds share this protocol:

    - ``next_class`` (``sees_next`` True, ``lookahead`` 0): a causal token classifier. Its output at
      the last token of the text is the class of the next token, before it is written.
    - ``classify`` (``sees_next`` False): reads written units and may leave the last ``lookahead``
      of them undecided until more text is written.
    """

    name: str
    sees_next: bool
    lookahead: int

    def predict(self, request: PredictionRequest) -> Awaitable[Prediction]:
        """Score the units of ``request``; must not block the event loop.

        Cancelling the result drops the request.

        Raises:
            EngineUnavailable: It cannot answer now, e.g. for lack of memory.
            EngineRefused: It failed on this request.
        """
        ...

    def release(self, key: str) -> None:
        """Drop the cache of the finished sample ``key``."""
        ...

    async def aclose(self) -> None:
        """Stop worker threads."""
        ...
