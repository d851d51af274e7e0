"""Baseline rules, which predict boundaries but no classes (pure).

A rule marks the units at which the turn is handed over. The current author writes up to the next
mark, so all units between two marks are in that author's class.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import regex

from tessy.boundary.base import UnitScore
from tessy.boundary.cut import Cut
from tessy.boundary.evaluation.drafts import EvaluationDraft, EvaluationSample, EvaluationSegment
from tessy.boundary.evaluation.metrics import PredictedUnits
from tessy.boundary.evaluation.replay import first_author
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


def scores_of_draft(draft: EvaluationDraft, marks: Marks) -> tuple[UnitScore, ...]:
    """Return scores by which the draft's author keeps exactly the units before the next mark."""
    return _flipped(draft.author, marks[draft.first : draft.last])


def scores_of_segment(segment: EvaluationSegment, marks: Marks, cut: Cut) -> tuple[UnitScore, ...]:
    """Return scores by which the author of the first unit begins, and each mark ends a turn."""
    return _flipped(first_author(segment.truth, cut), marks)


def predict_by_marks(sample: EvaluationSample, marks: Sequence[Marks]) -> PredictedUnits:
    """Convert the marks of a rule to scores of drafts and segments.

    Args:
        sample: Segments and drafts.
        marks: Marks of each segment.
    """
    by_key = {s.key: m for s, m in zip(sample.segments, marks, strict=True)}
    return PredictedUnits(
        [scores_of_draft(draft, by_key[draft.segment.key]) for draft in sample.drafts],
        [scores_of_segment(s, by_key[s.key], sample.cut) for s in sample.segments],
    )


def _flipped(author: Author, marks: Sequence[bool]) -> tuple[UnitScore, ...]:
    found = []
    for index, mark in enumerate(marks):
        author = other(author) if mark and index else author
        found.append(_SCORES[author])
    return tuple(found)
