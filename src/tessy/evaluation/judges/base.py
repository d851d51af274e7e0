"""The description of a judge, which decides whether a response answers its problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """The final answer of a response, and whether it is correct."""

    correct: bool
    final_answer: str
    rule: str  # where it was found


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge, defined as ``JUDGE`` by a module of this package.

    Attributes:
        name: Name on the command line.
        version: Changes whenever a verdict may change.
        needs: The problem's fields that it reads, for messages.
        reference: Returns the reference answer from the problem's fields; None without one.
        decide: Judges an answer by the reference and the problem's fields, and returns None if the
            answer contains no final one. May block, and raises UndecidedError if it cannot decide.
    """

    name: str
    version: str
    needs: str
    reference: Callable[[Mapping[str, Any]], str | None]
    decide: Callable[[str, str, Mapping[str, Any]], Verdict | None]

    @property
    def title(self) -> str:
        """Name and version, as rows and scores have them."""
        return f"{self.name} {self.version}"
