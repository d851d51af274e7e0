"""The seam between the cooperation and what says where one author's words end.

A predictor reads the shared text, never an author's token ids (DESIGN: it has a tokenizer of its
own), and judges *units*: the text between two consecutive edges (:mod:`tessy.core.edges`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

from tessy.core.errors import EngineUnavailable

STYLE_THRESHOLD = 0.5  # P(style) at or above this is style


class UnitScore(NamedTuple):
    """P(style) over the predictor tokens of one unit: of its first, the lowest, the highest."""

    first: float
    lowest: float
    highest: float


class PredictionRequest(
    NamedTuple
):  # made for every token: a frozen dataclass takes three times as long
    """What a predictor is asked about.

    Attributes:
        key: The sample, so that a predictor may keep a cache for it.
        kept: The shared thinking text, or its beginning.
        edges: Ascending offsets (chars) into ``text``; the units to judge lie between neighbours.
            The last one is ``len(text)``. With one edge nothing is judged: only ``next_style`` is
            wanted.
        final: No text will follow; every unit must be decided now.
        own_from: Text before this offset is the other author's. A unit that begins before it (the
            author went on inside a word) is scored by its tokens from there on, by predictors
            that have tokens.
        drafted: What follows ``kept``. Apart from it, because putting a long text together for
            every token is for whoever reads it, in a thread of its own.
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
        """The texts of the units to judge."""
        text = self.text
        return tuple(text[start:end] for start, end in pairwise(self.edges))


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to a :class:`PredictionRequest`.

    Attributes:
        units: Scores of the first units of the view, in order. Fewer than asked for if the
            predictor leaves the last ones undecided (never when the view is final).
        next_style: P(style) of what follows ``view.text``; None if this predictor cannot say
            before it is written.
    """

    units: tuple[UnitScore, ...]
    next_style: float | None = None


OnResult = Callable[[Prediction | BaseException], None]


Calm = Callable[[Prediction], bool]


class PendingPrediction:
    """A view that is being judged; by itself it does nothing but be answered in the end."""

    __slots__ = ()

    def hurry(self) -> Prediction | None:
        """Somebody waits now: an answer that was kept back, which is not told then."""
        return None

    def cancel(self) -> None:
        """The answer is not wanted any more; one that comes all the same is passed over."""

    async def gone(self) -> None:
        """Returns once nothing of it is under way, after it was cancelled."""


class _Awaited(PendingPrediction):
    """A judgement that is awaited, for predictors that have no questions of their own."""

    __slots__ = ("_judging",)

    def __init__(self, judging: asyncio.Future[Prediction]) -> None:
        self._judging = judging

    def cancel(self) -> None:
        self._judging.cancel()

    async def gone(self) -> None:
        await asyncio.gather(self._judging, return_exceptions=True)


class BoundaryPredictor(Protocol):
    """Says how likely each unit is style. Two kinds share this protocol.

    ``next_class`` kind (``sees_next`` True, ``lookahead`` 0): a causal token classifier; its
    output at the last token of the text is the class of what comes next, written or not.
    ``classify`` kind (``sees_next`` False): looks at written units and may leave the last
    ``lookahead`` of them undecided until more is written.
    """

    name: str
    sees_next: bool
    lookahead: int

    def predict(self, view: PredictionRequest) -> Awaitable[Prediction]:
        """Score the units of ``view``; must not block the event loop."""
        ...

    def release(self, key: str) -> None:
        """The sample ``key`` is finished: forget its cache."""
        ...

    async def aclose(self) -> None:
        """End worker threads."""
        ...


def ask(
    predictor: BoundaryPredictor, view: PredictionRequest, told: OnResult, calm: Calm | None = None
) -> PendingPrediction:
    """Have ``view`` judged and ``told`` called with the answer, by the event loop.

    A predictor may have a method ``ask(view, told, calm)`` of its own, which spares it a future.
    ``told`` hears of whatever becomes of the question, perhaps of its being cancelled, too; but not
    of an answer that :meth:`PendingPrediction.hurry` has given.

    Args:
        predictor: Judges.
        view: What is asked.
        told: Takes the answer, or what went wrong.
        calm: Says of an answer that nothing follows from it for now, in any thread. Such a one may
            be kept back until the question is hurried: it need not wake the event loop up.
    """
    own: Callable[[PredictionRequest, OnResult, Calm | None], PendingPrediction] | None = getattr(
        predictor, "ask", None
    )
    if own is not None:
        return own(view, told, calm)
    judging = asyncio.ensure_future(predictor.predict(view))

    def tell(judged: asyncio.Future[Prediction]) -> None:
        if judged.cancelled():  # perhaps by the predictor itself, and somebody waits
            told(EngineUnavailable(f"the boundary predictor {predictor.name} gave up a question"))
        else:
            told(judged.exception() or judged.result())

    judging.add_done_callback(tell)
    return _Awaited(judging)
