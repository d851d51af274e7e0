"""Whose a unit is: the rule that ends a span, the same for synthesis and for evaluation (pure).

A unit belongs to the class of its predictor tokens: ``discard`` keeps it only if all of them are in
the author's class, ``extend`` if the first one is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tessy.boundary.base import STYLE_THRESHOLD, Prediction, UnitScore
from tessy.core.records import Author

Cut = Literal["discard", "extend"]
Kind = Literal["style", "capability", "mixed"]


def in_class(author: Author, p_style: float, threshold: float = STYLE_THRESHOLD) -> bool:
    """Whether a token with this P(style) is the author's to write."""
    return (p_style >= threshold) == (author == "student")


def own_score(author: Author, p_style: float) -> float:
    """Probability of the author's own class."""
    return p_style if author == "student" else 1.0 - p_style


def decider(author: Author, score: UnitScore, cut: Cut) -> float:
    """P(style) of the token that decides whether ``author`` keeps the unit."""
    if cut == "extend":
        return score.first
    return score.lowest if author == "student" else score.highest


def keeps(author: Author, score: UnitScore, cut: Cut, threshold: float = STYLE_THRESHOLD) -> bool:
    """Whether ``author`` may write the unit."""
    return in_class(author, decider(author, score, cut), threshold)


def goes_on(author: Author, cut: Cut, judgement: Prediction) -> bool:
    """Whether all that was judged, and what follows, is the author's to write."""
    p_style = judgement.next_style
    if p_style is None or not in_class(author, p_style):
        return False
    return kept(author, judgement.units, cut) == len(judgement.units)


def kept(
    author: Author, scores: Iterable[UnitScore], cut: Cut, threshold: float = STYLE_THRESHOLD
) -> int:
    """How many units of a draft stay: those before the first that is not the author's."""
    count = 0
    for score in scores:
        if not keeps(author, score, cut, threshold):
            break
        count += 1
    return count


def kind_of(score: UnitScore, cut: Cut, threshold: float = STYLE_THRESHOLD) -> Kind:
    """Who may write the unit: the student (style), the teacher (capability), nobody (mixed)."""
    if keeps("student", score, cut, threshold):
        return "style"
    return "capability" if keeps("teacher", score, cut, threshold) else "mixed"
