"""How well a predictor cuts, by its scores of drafts and of whole segments (pure).

A *word* is a unit (``core.edges``). It is style or capability if the student or the teacher may
write it, and mixed if neither may, which only ``discard`` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tessy.boundary.base import STYLE_THRESHOLD, UnitScore
from tessy.boundary.cut import Cut, Kind, kept, kind_of
from tessy.boundary.evaluation.drafts import EvaluationDraft, EvaluationSegment
from tessy.boundary.evaluation.replay import Replay, replay
from tessy.core.statistics import Case, Estimate, mean, share

Scores = tuple[UnitScore, ...]
Figures = dict[str, Estimate | None]
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True, slots=True)
class PredictedUnits:
    """What one predictor said.

    Attributes:
        drafts: Scores of each draft's units, in the order of the drafts.
        segments: Scores of each segment's units, in the order of the segments.
    """

    drafts: Sequence[Scores]
    segments: Sequence[Scores]

    @property
    def graded(self) -> bool:
        """Whether it says more than yes and no, so that a threshold matters."""
        return any(
            p not in (0.0, 1.0) for scores in self.segments for unit in scores[1:] for p in unit
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Who cuts what: one predictor for both authors, or B_S and B_T."""

    student: PredictedUnits
    teacher: PredictedUnits


class Cutting(NamedTuple):
    """One draft: how many of its units should stay, and how many would."""

    draft: EvaluationDraft
    truth: int
    predicted: int

    @property
    def length(self) -> int:
        """Units of the draft."""
        return self.draft.last - self.draft.first

    @property
    def due(self) -> bool:
        """The class changes in the draft."""
        return self.truth < self.length

    def tokens_off(self) -> int:
        """Tokens between where it would be cut and where it should be."""
        first, tokens = self.draft.first, self.draft.segment.tokens
        return abs(tokens[first + self.predicted] - tokens[first + self.truth])


def cuttings(
    drafts: Sequence[EvaluationDraft], pair: Pair, cut: Cut, threshold: float = STYLE_THRESHOLD
) -> list[Cutting]:
    """Cut each draft by the annotation, and by its author's predictor."""
    scores = {"student": pair.student.drafts, "teacher": pair.teacher.drafts}
    return [
        Cutting(
            draft,
            kept(draft.author, draft.truth, cut),
            kept(draft.author, scores[draft.author][i][: draft.last - draft.first], cut, threshold),
        )
        for i, draft in enumerate(drafts)
    ]


def cut_figures(rows: Sequence[Cutting]) -> Figures:
    """How drafts are cut.

    Returns:
        ``right``: share of drafts cut where they should be, or left whole as they should be.
        Of the drafts in which the class changes: ``exact``, ``early`` and ``late`` shares (not cut
        at all is late, the draft's end counting as the cut), ``error_words`` and ``error_tokens``,
        the mean distance. Of the others: ``left_whole``, the share that is not cut.
    """
    due = [row for row in rows if row.due]

    def of(some: Sequence[Cutting], says: Callable[[Cutting], bool]) -> Estimate | None:
        return share(Case(r.draft.segment.question, says(r)) for r in some)

    def distance(measure: Callable[[Cutting], int]) -> Estimate | None:
        return mean(Case(r.draft.segment.question, measure(r)) for r in due)

    return {
        "right": of(rows, lambda r: r.predicted == r.truth),
        "exact": of(due, lambda r: r.predicted == r.truth),
        "early": of(due, lambda r: r.predicted < r.truth),
        "late": of(due, lambda r: r.predicted > r.truth),
        "error_words": distance(lambda r: abs(r.predicted - r.truth)),
        "error_tokens": distance(Cutting.tokens_off),
        "left_whole": of([r for r in rows if not r.due], lambda r: r.predicted == r.truth),
    }


def replays(
    segments: Sequence[EvaluationSegment], pair: Pair, cut: Cut, threshold: float = STYLE_THRESHOLD
) -> list[Replay]:
    """Synthesis replayed over each segment."""
    both = zip(segments, pair.student.segments, pair.teacher.segments, strict=True)
    return [replay(s.truth, student, teacher, cut, threshold) for s, student, teacher in both]


def replay_figures(
    segments: Sequence[EvaluationSegment], played: Sequence[Replay], cut: Cut
) -> Figures:
    """What synthesis would make of the segments.

    Returns:
        ``style_by_teacher``: share of style words the teacher would write;
        ``capability_by_student``: share of capability words the student would write;
        ``bounced``: share of hand-overs that are handed straight back;
        ``hand_overs``: per word.
    """
    leaks: dict[Kind, list[Case]] = {"style": [], "capability": [], "mixed": []}
    for segment, one in zip(segments, played, strict=True):
        for truth, author in list(zip(segment.truth, one.authors, strict=True))[1:]:
            kind = kind_of(truth, cut)
            leaks[kind].append(Case(segment.question, (author == "teacher") == (kind == "style")))
    both = list(zip(segments, played, strict=True))
    return {
        "style_by_teacher": share(leaks["style"]),
        "capability_by_student": share(leaks["capability"]),
        "bounced": share(Case(s.question, one.bounced, one.hand_overs) for s, one in both),
        "hand_overs": share(Case(s.question, one.hand_overs, len(s) - 1) for s, one in both),
    }


def word_figures(
    segments: Sequence[EvaluationSegment], scores: Sequence[Scores], cut: Cut
) -> Figures:
    """How words are classed: ``accuracy``, and of style ``precision``, ``recall`` and ``f1``."""
    return class_figures(
        (segment.question, kind_of(truth, cut), kind_of(said, cut))
        for segment, told in zip(segments, scores, strict=True)
        for truth, said in list(zip(segment.truth, told, strict=True))[1:]
    )


def class_figures(rows: Iterable[tuple[str, str, str]]) -> Figures:
    """Accuracy, and of the class ``style`` precision, recall and F1.

    Args:
        rows: Question, true class, said class.
    """
    found = list(rows)
    style = [(question, truth == "style", said == "style") for question, truth, said in found]
    return {
        "accuracy": share(Case(question, truth == said) for question, truth, said in found),
        "precision": share(Case(q, truth and said, said) for q, truth, said in style),
        "recall": share(Case(q, truth and said, truth) for q, truth, said in style),
        "f1": share(Case(q, 2 * (truth and said), truth + said) for q, truth, said in style),
    }


def sweep(
    segments: Sequence[EvaluationSegment], drafts: Sequence[EvaluationDraft], pair: Pair, cut: Cut
) -> list[tuple[float, Figures]]:
    """The figures that depend on the threshold of P(style), at each of :data:`THRESHOLDS`."""
    found = []
    for threshold in THRESHOLDS:
        played = replays(segments, pair, cut, threshold)
        figures = cut_figures(cuttings(drafts, pair, cut, threshold))
        found.append((threshold, figures | replay_figures(segments, played, cut)))
    return found


def best_threshold(swept: Sequence[tuple[float, Figures]]) -> float | None:
    """Where most drafts end right; on a tie the one nearest to a half. None if there are none."""
    known = [(t, right.value) for t, figures in swept if (right := figures["right"]) is not None]
    if not known:
        return None
    return min(known, key=lambda item: (-item[1], abs(item[0] - STYLE_THRESHOLD)))[0]


def disagreement(
    segments: Sequence[EvaluationSegment], first: PredictedUnits, second: PredictedUnits, cut: Cut
) -> Figures:
    """How far two predictors are apart on the same text.

    Returns:
        ``words``: share of words whose class differs; ``bounced_first_student`` and
        ``bounced_second_student``: share of hand-overs handed straight back if the one, or the
        other, is the student's predictor.
    """
    both = list(zip(segments, first.segments, second.segments, strict=True))
    words = share(
        Case(segment.question, kind_of(one, cut) != kind_of(two, cut))
        for segment, ones, twos in both
        for one, two in list(zip(ones, twos, strict=True))[1:]
    )

    def bounced(pair: Pair) -> Estimate | None:
        return replay_figures(segments, replays(segments, pair, cut), cut)["bounced"]

    return {
        "words": words,
        "bounced_first_student": bounced(Pair(first, second)),
        "bounced_second_student": bounced(Pair(second, first)),
    }
