"""Replaying the hand-overs of synthesis on a given segment (pure).

If both authors' predictors reject a unit, the turn bounces and the unit is forced, as in
:class:`tessy.synthesis.cooperation.Cooperation` (which resamples first; here the text is fixed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessy.boundary.base import STYLE_THRESHOLD, UnitScore
from tessy.boundary.cut import Cut, deciding_score, keeps, kind_of, own_score
from tessy.core.records import Author, other


@dataclass(frozen=True, slots=True)
class Replay:
    """The authors that synthesis would assign to the units of a segment.

    Attributes:
        authors: Author of each unit; that of the first one is given by the annotation.
        hand_overs: Number of hand-overs.
        bounced: Number of hand-overs that were handed straight back, so that a unit was forced.
    """

    authors: tuple[Author, ...]
    hand_overs: int
    bounced: int


def replay(
    truth: Sequence[UnitScore],
    student: Sequence[UnitScore],
    teacher: Sequence[UnitScore],
    cut: Cut,
    threshold: float = STYLE_THRESHOLD,
) -> Replay:
    """Replay the hand-overs of both authors on a segment, from each unit's scores.

    The ground truth of the first unit determines who begins.
    """
    author = first_author(truth, cut)
    authors = [author]
    hand_overs = bounced = 0
    for scores in zip(student[1:], teacher[1:], strict=True):
        by_author: dict[Author, UnitScore] = {"student": scores[0], "teacher": scores[1]}
        if not keeps(author, by_author[author], cut, threshold):
            hand_overs += 1
            author = other(author)
            if not keeps(author, by_author[author], cut, threshold):
                bounced += 1
                author = _forced(by_author, cut)
        authors.append(author)
    return Replay(tuple(authors), hand_overs, bounced)


def first_author(truth: Sequence[UnitScore], cut: Cut) -> Author:
    """Return the author of the first unit; the student if it is mixed."""
    return "teacher" if kind_of(truth[0], cut) == "capability" else "student"


def _forced(scores: dict[Author, UnitScore], cut: Cut) -> Author:
    """Return the author with the higher score of its own class; the student on a tie."""
    own = {a: own_score(a, deciding_score(a, scores[a], cut)) for a in scores}
    return "teacher" if own["teacher"] > own["student"] else "student"
