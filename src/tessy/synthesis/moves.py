"""What the cooperation asks of its driver (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from tessy.boundary.base import View
from tessy.records import Author
from tessy.tokens import TokenIds


@dataclass(frozen=True, slots=True)
class Peek:
    """Ask the predictor of ``author`` what class comes next."""

    author: Author
    view: View


@dataclass(frozen=True, slots=True)
class Ask:
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
