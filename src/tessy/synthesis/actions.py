"""What the cooperation asks of its driver (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from tessy.boundary.base import PredictionRequest
from tessy.core.records import Author
from tessy.tokenization.token_ids import TokenIds


@dataclass(frozen=True, slots=True)
class PredictNext:
    """Ask the predictor of ``author`` what class comes next."""

    author: Author
    view: PredictionRequest


@dataclass(frozen=True, slots=True)
class Generate:
    """Have a model go on."""

    author: Author
    prompt: TokenIds
    max_tokens: int
    stop_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Done:
    """The thinking has ended, by ``ended_by``'s stop id."""

    ended_by: Author


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an author kept nothing: its own class's score there, and whether it had drafted."""

    score: float
    drafted: bool


@dataclass(frozen=True, slots=True)
class PrefetchedTurn:
    """What will be asked next if the span ends at ``end``, as now seems likely.

    Attributes:
        end: Where, in chars of the thinking.
        peek: What the next author's predictor will be asked; None if it cannot say.
        ask: What its model will be asked. :meth:`Cooperation.next` gives these same objects.
    """

    end: int
    peek: PredictNext | None
    ask: Generate
