"""Actions that the cooperation returns for its driver to carry out (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tessy.boundary.base import PredictionRequest
from tessy.core.records import Author
from tessy.tokenization.token_ids import TokenIds


@dataclass(frozen=True, slots=True)
class PredictNext:
    """Run the predictor of ``author`` for the class of what comes next."""

    author: Author
    request: PredictionRequest


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue a text with a model."""

    author: Author
    prompt: TokenIds
    max_tokens: int
    stop_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Done:
    """The thinking has ended, by a stop id of ``ended_by``."""

    ended_by: Author


class Rejection(NamedTuple):
    """Why an author kept nothing: the score of its own class, and whether it had drafted."""

    score: float
    drafted: bool


@dataclass(frozen=True, slots=True)
class PrefetchedTurn:
    """The first actions of the next turn if the span ends at ``end`` (chars of the thinking).

    :meth:`Cooperation.next` returns these same objects if it does. ``predict_next`` is None if the
    receiver's predictor does not return the class of what is not written yet.
    """

    end: int
    predict_next: PredictNext | None
    generate: Generate
