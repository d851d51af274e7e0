"""What predictors are measured on: annotated segments as units, and drafts cut out of them (pure).

The truth of a unit is what a predictor would score that knows the annotation: its first non-space
character, the lowest and the highest of them, each 1 in a style span and 0 elsewhere. The rule that
cuts in synthesis then cuts by the truth as it does by a predictor, whatever its tokens are.

The first unit of a segment is given: nothing comes before it that a predictor could read.
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
from tessy.tokenization.token_ids import Codec

TokenCount = Callable[[str], int]  # of the text of a unit


@dataclass(frozen=True, slots=True)
class EvaluationSegment:
    """An annotated segment; U units.

    Attributes:
        key: Which segment.
        question: What figures are clustered by.
        text: The segment.
        edges: Where units begin and the last one ends (U + 1), in chars.
        truth: What the annotation says of each unit (U).
        tokens: How many tokens lie before each edge (U + 1).
    """

    key: SegmentKey
    question: str
    text: str
    edges: tuple[int, ...]
    truth: tuple[UnitScore, ...]
    tokens: tuple[int, ...]

    def __len__(self) -> int:
        """Number of units."""
        return len(self.truth)

    def view(self) -> PredictionRequest:
        """Ask about every unit, as if the thinking were this segment."""
        return PredictionRequest(_name(self.key), self.text, self.edges, final=True)


@dataclass(frozen=True, slots=True)
class EvaluationDraft:
    """What an author wrote from a random place: units ``[first, last)`` of a segment.

    The author is the one whose class the first unit is in: at the first unit of the other class
    the draft should be cut.
    """

    segment: EvaluationSegment
    first: int
    last: int
    author: Author

    @property
    def truth(self) -> tuple[UnitScore, ...]:
        """What the annotation says of its units."""
        return self.segment.truth[self.first : self.last]

    def view(self, lookahead: int) -> PredictionRequest:
        """Ask about its units.

        Args:
            lookahead: Units beyond the draft that are shown as well, for in synthesis the stream
                goes on until the predictor has decided.
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
    """What everything is measured on.

    Attributes:
        segments: Annotated segments.
        drafts: Drafts cut out of them.
        cut: The rule by which a unit belongs to a class.
    """

    segments: Sequence[EvaluationSegment]
    drafts: Sequence[EvaluationDraft]
    cut: Cut


def token_count(codec: Codec) -> TokenCount:
    """Counts a unit in the tokens of ``codec``."""
    return lambda unit: len(codec.encode(unit))


def one_word(_: str) -> int:
    """Counts every unit as one token, where nobody has tokens."""
    return 1


def segment_of(annotation: Annotation, count: TokenCount) -> EvaluationSegment:
    """An annotation as units.

    Args:
        annotation: The segment and its style.
        count: Counts the tokens of a unit.
    """
    text = annotation.text
    bounds = (0, *edges(text))
    units = [text[start:end] for start, end in pairwise(bounds)]
    return EvaluationSegment(
        key=annotation.key,
        question=annotation.question,
        text=text,
        edges=bounds,
        truth=truth_of(text, bounds, annotation.style),
        tokens=tuple(accumulate(map(count, units), initial=0)),
    )


def truth_of(text: str, bounds: Sequence[int], style: Sequence[StyleSpan]) -> tuple[UnitScore, ...]:
    """What style spans say of the units between ``bounds`` (chars).

    White space counts only in a unit that is nothing else.
    """
    marks = [0.0] * len(text)
    for span in style:
        marks[span.start : span.end] = [1.0] * (span.end - span.start)
    found = []
    for start, end in pairwise(bounds):
        inside = [marks[i] for i in range(start, end) if not text[i].isspace()]
        inside = inside or marks[start:end]
        found.append(UnitScore(inside[0], min(inside), max(inside)))
    return tuple(found)


def draw_drafts(
    segments: Sequence[EvaluationSegment], *, tokens: int, count: int, seed: int, cut: Cut
) -> list[EvaluationDraft]:
    """Drafts from random units: at most ``count``, none twice.

    A draft ends with the last unit that lies whole in it, and with its segment. It has one unit at
    least. Units of both classes start none: neither author would have written them.

    Args:
        segments: Where to draw from.
        tokens: Length of a draft in tokens.
        count: How many to draw.
        seed: Draws the places.
        cut: The rule by which a unit belongs to a class.
    """
    places = [
        (segment, first)
        for segment in segments
        for first in range(1, len(segment))
        if kind_of(segment.truth[first], cut) != "mixed"
    ]
    if len(places) > count:
        places = [
            places[i]
            for i in sorted(Random(derive_seed("drafts", seed)).sample(range(len(places)), count))
        ]
    return [_draft(segment, first, tokens, cut) for segment, first in places]


def _draft(segment: EvaluationSegment, first: int, tokens: int, cut: Cut) -> EvaluationDraft:
    whole = bisect_right(segment.tokens, segment.tokens[first] + tokens) - 1
    style = kind_of(segment.truth[first], cut) == "style"
    return EvaluationDraft(segment, first, max(first + 1, whole), "student" if style else "teacher")


def _name(key: SegmentKey) -> str:
    return "/".join(map(str, key))
