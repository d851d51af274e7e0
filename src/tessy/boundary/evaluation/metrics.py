"""Metrics of a predictor's cuts, from its scores of drafts and whole segments (pure).

A *word* is a unit (``core.edges``). It is style if the student may write it, capability if the
teacher may, and mixed if neither may (only with ``discard``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tessy.boundary.base import STYLE_THRESHOLD, UnitScore
from tessy.boundary.cut import Cut, Kind, count_kept, deciding_score, keeps, kind_of, own_score
from tessy.boundary.evaluation.drafts import EvaluationDraft, EvaluationSample
from tessy.core.records import Author, other
from tessy.core.statistics import Case, Estimate, mean, share

Scores = tuple[UnitScore, ...]
Metrics = dict[str, Estimate | None]
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True, slots=True)
class PredictedUnits:
    """Scores by one predictor of each draft's units, and of each segment's units."""

    drafts: Sequence[Scores]
    segments: Sequence[Scores]

    @property
    def graded(self) -> bool:
        """Whether some score is not 0 or 1, so that the threshold matters."""
        return any(
            p not in (0.0, 1.0) for scores in self.segments for unit in scores[1:] for p in unit
        )


@dataclass(frozen=True, slots=True)
class PairedScores:
    """The scores for both authors: of one predictor, or of B_S and B_T."""

    student: PredictedUnits
    teacher: PredictedUnits


class DraftCut(NamedTuple):
    """The cut of one draft: the number of units kept by the annotation and by the predictor."""

    draft: EvaluationDraft
    truth: int
    predicted: int

    @property
    def class_changes(self) -> bool:
        """Whether the class changes within the draft, so that it should be cut."""
        return self.truth < self.draft.last - self.draft.first

    def error_tokens(self) -> int:
        """Return the distance in tokens between the predicted and the true cut."""
        first, tokens = self.draft.first, self.draft.segment.tokens
        return abs(tokens[first + self.predicted] - tokens[first + self.truth])


def cut_drafts(
    sample: EvaluationSample, pair: PairedScores, threshold: float = STYLE_THRESHOLD
) -> list[DraftCut]:
    """Cut each draft by the annotation and by the predictor of its author."""
    cuts = []
    for draft, student, teacher in zip(
        sample.drafts, pair.student.drafts, pair.teacher.drafts, strict=True
    ):
        scores = (student if draft.author == "student" else teacher)[: len(draft.truth)]
        truth = count_kept(draft.author, draft.truth, sample.cut)
        predicted = count_kept(draft.author, scores, sample.cut, threshold)
        cuts.append(DraftCut(draft, truth, predicted))
    return cuts


def cut_metrics(rows: Sequence[DraftCut]) -> Metrics:
    """Return the metrics of draft cuts.

    ``right``: share of drafts that are cut where they should be, or correctly left whole. Of the
    drafts in which the class changes: ``exact``, ``early`` and ``late`` shares (a missing cut is
    late, at the draft's end), ``error_words`` and ``error_tokens``, the mean distances. Of the
    others: ``left_whole``, the share that is not cut.
    """
    changed = [row for row in rows if row.class_changes]
    unchanged = [row for row in rows if not row.class_changes]

    def share_of(
        cuts: Sequence[DraftCut], condition: Callable[[DraftCut], bool]
    ) -> Estimate | None:
        return share(Case(r.draft.segment.question, condition(r)) for r in cuts)

    def distance(measure: Callable[[DraftCut], int]) -> Estimate | None:
        return mean(Case(r.draft.segment.question, measure(r)) for r in changed)

    return {
        "right": share_of(rows, lambda r: r.predicted == r.truth),
        "exact": share_of(changed, lambda r: r.predicted == r.truth),
        "early": share_of(changed, lambda r: r.predicted < r.truth),
        "late": share_of(changed, lambda r: r.predicted > r.truth),
        "error_words": distance(lambda r: abs(r.predicted - r.truth)),
        "error_tokens": distance(DraftCut.error_tokens),
        "left_whole": share_of(unchanged, lambda r: r.predicted == r.truth),
    }


@dataclass(frozen=True, slots=True)
class Replay:
    """The authors that synthesis would assign to the units of a segment."""

    authors: tuple[Author, ...]  # that of the first unit is given by the annotation
    hand_overs: int
    bounced: int  # hand-overs that were handed straight back, so that a unit was forced


def replay(
    truth: Sequence[UnitScore],
    student: Sequence[UnitScore],
    teacher: Sequence[UnitScore],
    cut: Cut,
    threshold: float = STYLE_THRESHOLD,
) -> Replay:
    """Replay the hand-overs of both authors on a segment, from each unit's scores.

    If both authors' predictors reject a unit, the turn bounces and the unit is forced, as in
    :class:`tessy.synthesis.cooperation.Cooperation`, but without drawing other text first.
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


def replay_metrics(
    sample: EvaluationSample, pair: PairedScores, threshold: float = STYLE_THRESHOLD
) -> Metrics:
    """Replay synthesis on each segment; return its metrics.

    ``style_by_teacher`` and ``capability_by_student``: shares of the style and capability words
    that the other author would write; ``bounced``: share of hand-overs that are handed straight
    back; ``hand_overs``: hand-overs per word.
    """
    leaks: dict[Kind, list[Case]] = {"style": [], "capability": [], "mixed": []}
    bounced, hand_overs = [], []
    for segment, student, teacher in zip(
        sample.segments, pair.student.segments, pair.teacher.segments, strict=True
    ):
        question = segment.question
        replayed = replay(segment.truth, student, teacher, sample.cut, threshold)
        bounced.append(Case(question, replayed.bounced, replayed.hand_overs))
        hand_overs.append(Case(question, replayed.hand_overs, len(segment) - 1))
        for truth, author in list(zip(segment.truth, replayed.authors, strict=True))[1:]:
            kind = kind_of(truth, sample.cut)
            leaks[kind].append(Case(question, (author == "teacher") == (kind == "style")))
    return {
        "style_by_teacher": share(leaks["style"]),
        "capability_by_student": share(leaks["capability"]),
        "bounced": share(bounced),
        "hand_overs": share(hand_overs),
    }


def word_metrics(sample: EvaluationSample, predicted: PredictedUnits) -> Metrics:
    """Return :func:`class_metrics` of the words, the first of each segment excepted."""
    return class_metrics(
        (segment.question, kind_of(truth, sample.cut), kind_of(score, sample.cut))
        for segment, scores in zip(sample.segments, predicted.segments, strict=True)
        for truth, score in list(zip(segment.truth, scores, strict=True))[1:]
    )


def class_metrics(rows: Iterable[tuple[str, str, str]]) -> Metrics:
    """Return ``accuracy``, ``precision``, ``recall`` and ``f1`` of style against all other classes.

    ``rows`` have the problem, the true class and the predicted class of each case.
    """
    style = [(q, truth == "style", predicted == "style") for q, truth, predicted in rows]
    return {
        "accuracy": share(Case(q, truth == guess) for q, truth, guess in style),
        "precision": share(Case(q, truth and guess, guess) for q, truth, guess in style),
        "recall": share(Case(q, truth and guess, truth) for q, truth, guess in style),
        "f1": share(Case(q, 2 * (truth and guess), truth + guess) for q, truth, guess in style),
    }


def sweep(sample: EvaluationSample, pair: PairedScores) -> list[tuple[float, Metrics]]:
    """Return the metrics that depend on the threshold, at each of :data:`THRESHOLDS`."""
    rows = []
    for threshold in THRESHOLDS:
        metrics = cut_metrics(cut_drafts(sample, pair, threshold))
        rows.append((threshold, metrics | replay_metrics(sample, pair, threshold)))
    return rows


def best_threshold(by_threshold: Sequence[tuple[float, Metrics]]) -> float | None:
    """Return the threshold with most drafts right, nearest to 0.5 on a tie; None without drafts."""
    known = [
        (t, right.value) for t, metrics in by_threshold if (right := metrics["right"]) is not None
    ]
    if not known:
        return None
    return min(known, key=lambda item: (-item[1], abs(item[0] - STYLE_THRESHOLD)))[0]


def disagreement(
    sample: EvaluationSample, first: PredictedUnits, second: PredictedUnits
) -> Metrics:
    """Return the share of words whose class differs between two predictors.

    Also the share of hand-overs that are handed straight back if the first, or the second, is the
    student's predictor.
    """
    words = [
        Case(segment.question, kind_of(score, sample.cut) != kind_of(other, sample.cut))
        for segment, *scores in zip(sample.segments, first.segments, second.segments, strict=True)
        for score, other in list(zip(*scores, strict=True))[1:]
    ]
    pair, swapped = PairedScores(first, second), PairedScores(second, first)
    return {
        "words": share(words),
        "bounced_first_student": replay_metrics(sample, pair)["bounced"],
        "bounced_second_student": replay_metrics(sample, swapped)["bounced"],
    }
