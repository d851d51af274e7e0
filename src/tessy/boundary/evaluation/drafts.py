"""The evaluation data of predictors: annotated segments, and drafts drawn from them (pure).

The ground truth of a unit is the score of a perfect predictor of characters: 1 in a style span, 0
elsewhere. The cut rule of synthesis applies to it independent of tokenization. The first unit of a
segment is not scored, since there is no text before it for a predictor to read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

from tessy.boundary.base import PredictionRequest, UnitScore
from tessy.boundary.cut import Cut, kind_of
from tessy.core.edges import edges
from tessy.core.records import Annotation, Author, SegmentKey, StyleSpan
from tessy.core.seeds import derive_seed

TokenCount = Callable[[str], int]  # from the text of a unit


@dataclass(frozen=True, slots=True)
class EvaluationSegment:
    """An annotated segment; U units."""

    key: SegmentKey
    question: str  # digest of the problem, by which metrics are clustered
    text: str
    edges: tuple[int, ...]  # start of each unit, and the end of the last one (U + 1), in chars
    truth: tuple[UnitScore, ...]  # ground truth of each unit (U)
    tokens: tuple[int, ...]  # number of tokens before each edge (U + 1)

    def __len__(self) -> int:
        return len(self.truth)

    def request(self) -> PredictionRequest:
        """Return a request for every unit, as if the thinking were this segment."""
        return PredictionRequest(_name(self.key), self.text, self.edges, final=True)


@dataclass(frozen=True, slots=True)
class EvaluationDraft:
    """A simulated draft: units ``[first, last)`` of a segment.

    Its author is that of the first unit's class; it should be cut at the first unit of the other.
    """

    segment: EvaluationSegment
    first: int
    last: int
    author: Author

    @property
    def truth(self) -> tuple[UnitScore, ...]:
        """Ground truth of its units."""
        return self.segment.truth[self.first : self.last]

    def request(self, lookahead: int) -> PredictionRequest:
        """Return a request for its units, and for ``lookahead`` more after it.

        In synthesis, streaming continues until the predictor has decided.
        """
        last = min(len(self.segment), self.last + lookahead)
        return PredictionRequest(
            f"{_name(self.segment.key)}/{self.first}",
            self.segment.text[: self.segment.edges[last]],
            self.segment.edges[self.first : last + 1],
            final=last == len(self.segment),
        )


@dataclass(frozen=True, slots=True)
class EvaluationSample:
    """The annotated segments, the drafts drawn from them, and the rule that cuts them."""

    segments: Sequence[EvaluationSegment]
    drafts: Sequence[EvaluationDraft]
    cut: Cut


def to_segment(annotation: Annotation, count: TokenCount | None = None) -> EvaluationSegment:
    """Convert an annotation to units with ground truth.

    ``count`` returns the tokens of a unit; without it, every unit is one token.
    """
    text = annotation.text
    bounds = (0, *edges(text))
    lengths = (count(text[start:end]) if count else 1 for start, end in pairwise(bounds))
    return EvaluationSegment(
        key=annotation.key,
        question=annotation.question,
        text=text,
        edges=bounds,
        truth=truth_scores(text, bounds, annotation.style),
        tokens=tuple(accumulate(lengths, initial=0)),
    )


def truth_scores(
    text: str, bounds: Sequence[int], style: Sequence[StyleSpan]
) -> tuple[UnitScore, ...]:
    """Return the ground truth of the units between ``bounds`` (ascending, in chars).

    White space is ignored, except in a unit of only white space.
    """
    marks = [0.0] * len(text)
    for span in style:
        marks[span.start : span.end] = [1.0] * (span.end - span.start)
    scores = []
    for start, end in pairwise(bounds):
        inside = [marks[i] for i in range(start, end) if not text[i].isspace()]
        inside = inside or marks[start:end]
        scores.append(UnitScore(inside[0], min(inside), max(inside)))
    return tuple(scores)


def draw_drafts(
    segments: Sequence[EvaluationSegment], *, tokens: int, count: int, seed: int, cut: Cut
) -> list[EvaluationDraft]:
    """Draw at most ``count`` drafts that start at distinct random units.

    A draft is at least one whole unit, and as many as ``tokens`` tokens of its segment hold. It
    does not start at a mixed unit, which neither author would have written.
    """
    starts = [
        (segment, first)
        for segment in segments
        for first in range(1, len(segment))
        if kind_of(segment.truth[first], cut) != "mixed"
    ]
    if len(starts) > count:
        draw = Random(derive_seed("drafts", seed))
        starts = [starts[i] for i in sorted(draw.sample(range(len(starts)), count))]
    return [_draft(segment, first, tokens, cut) for segment, first in starts]


def _draft(segment: EvaluationSegment, first: int, tokens: int, cut: Cut) -> EvaluationDraft:
    end = bisect_right(segment.tokens, segment.tokens[first] + tokens) - 1
    style = kind_of(segment.truth[first], cut) == "style"
    return EvaluationDraft(segment, first, max(first + 1, end), "student" if style else "teacher")


def _name(key: SegmentKey) -> str:
    return "/".join(map(str, key))
