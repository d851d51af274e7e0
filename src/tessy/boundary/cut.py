"""The rule that assigns a unit to an author and ends a span (pure).

A unit belongs to the class of its predictor tokens: ``discard`` keeps it only if all of them are in
the author's class, ``extend`` if the first one is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tessy.boundary.base import STYLE_THRESHOLD, UnitScore
from tessy.core.records import Author

Cut = Literal["discard", "extend"]
Kind = Literal["style", "capability", "mixed"]


def in_class(author: Author, p_style: float, threshold: float = STYLE_THRESHOLD) -> bool:
    """Return whether a token with this P(style) is in the author's class."""
    return (p_style >= threshold) == (author == "student")


def own_score(author: Author, p_style: float) -> float:
    """Return the probability of the author's own class."""
    return p_style if author == "student" else 1.0 - p_style


def deciding_score(author: Author, score: UnitScore, cut: Cut) -> float:
    """Return P(style) of the token that decides whether ``author`` keeps the unit."""
    if cut == "extend":
        return score.first
    return score.lowest if author == "student" else score.highest


def keeps(author: Author, score: UnitScore, cut: Cut, threshold: float = STYLE_THRESHOLD) -> bool:
    """Return whether ``author`` may write the unit."""
    return in_class(author, deciding_score(author, score, cut), threshold)


def count_kept(
    author: Author, scores: Iterable[UnitScore], cut: Cut, threshold: float = STYLE_THRESHOLD
) -> int:
    """Return how many units precede the first one of a draft that is not its author's."""
    count = 0
    for score in scores:
        if not keeps(author, score, cut, threshold):
            break
        count += 1
    return count


def kind_of(score: UnitScore, cut: Cut, threshold: float = STYLE_THRESHOLD) -> Kind:
    """Return who may write a unit: the student (style), the teacher or neither (mixed)."""
    if keeps("student", score, cut, threshold):
        return "style"
    return "capability" if keeps("teacher", score, cut, threshold) else "mixed"
