"""Baseline rules, which predict boundaries but no classes (pure).

A rule marks the units at which the turn is handed over: all units between two marks are in the
class of the current author.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import regex

from tessy.boundary.base import UnitScore
from tessy.boundary.evaluation.drafts import EvaluationSample, EvaluationSegment
from tessy.boundary.evaluation.metrics import PredictedUnits, first_author
from tessy.core.records import Author, other

Marks = tuple[bool, ...]  # for each unit of a segment: a hand-over precedes it

_SCORES: dict[Author, UnitScore] = {
    "student": UnitScore(1.0, 1.0, 1.0),
    "teacher": UnitScore(0.0, 0.0, 0.0),
}
_END = regex.compile(r"[.?!…。？！][\"'”’)\]}*]*\s*\Z|\n\s*\Z")


def sentence_marks(segment: EvaluationSegment) -> Marks:
    """Mark each unit that begins a sentence or a line.

    A sentence ends with a unit that ends in ``.``, ``?``, ``!`` or ``…`` (optionally followed by
    closing quotes and brackets), abbreviations included: the rule is naive by design.
    """
    units = [segment.text[start:end] for start, end in pairwise(segment.edges)]
    return (False, *(_END.search(unit) is not None for unit in units[:-1]))


def predict_by_marks(sample: EvaluationSample, marks: Sequence[Marks]) -> PredictedUnits:
    """Convert the marks of each segment to scores of drafts and segments.

    The author of a draft keeps exactly the units before the next mark. In a segment, the author of
    the first unit begins, and each mark ends a turn.
    """
    by_key = {s.key: m for s, m in zip(sample.segments, marks, strict=True)}
    return PredictedUnits(
        [
            _flipped(draft.author, by_key[draft.segment.key][draft.first : draft.last])
            for draft in sample.drafts
        ],
        [_flipped(first_author(s.truth, sample.cut), by_key[s.key]) for s in sample.segments],
    )


def _flipped(author: Author, marks: Sequence[bool]) -> tuple[UnitScore, ...]:
    scores = []
    for index, mark in enumerate(marks):
        author = other(author) if mark and index else author
        scores.append(_SCORES[author])
    return tuple(scores)
