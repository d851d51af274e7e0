"""Replaying synthesis over a segment that is already written (pure).

At each unit the author's predictor says whether the author may write it; if not, the pen changes
hands. If the other's predictor gives it straight back, the turn bounces, and one unit is forced, as
in :class:`tessy.synthesis.cooperation.Cooperation` (where redrawing comes first: here the text is
what it is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessy.boundary.base import STYLE_THRESHOLD, UnitScore
from tessy.boundary.cut import Cut, decider, keeps, kind_of, own_score
from tessy.core.records import Author, other


@dataclass(frozen=True, slots=True)
class Replay:
    """Who would write the units of a segment.

    Attributes:
        authors: Of each unit; the first one's is given by the annotation.
        hand_overs: Times an author's predictor ended its turn.
        bounced: Hand-overs that were handed straight back: units that had to be forced.
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
    """Let both write a segment.

    Args:
        truth: What the annotation says of each unit; the first one decides who begins.
        student: What the student's predictor says of each.
        teacher: What the teacher's predictor says of each.
        cut: The rule by which a unit is kept.
        threshold: P(style) at or above which a token is style.
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
    """Who wrote the first unit; the student where neither would have."""
    return "teacher" if kind_of(truth[0], cut) == "capability" else "student"


def _forced(scores: dict[Author, UnitScore], cut: Cut) -> Author:
    """Who must write what neither would: the one less against it, the student on a tie."""
    own = {a: own_score(a, decider(a, scores[a], cut)) for a in scores}
    return "teacher" if own["teacher"] > own["student"] else "student"
