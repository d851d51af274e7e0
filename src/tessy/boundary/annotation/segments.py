"""Which pieces of sampled thinking are annotated (pure).

A response's segments depend on the seed, its key and its text alone, and so does their order.
Over all responses they are taken in rounds: first everybody's first segment, then everybody's
second. A response that comes later therefore changes no segment of the others; it can only make
the last ones drawn from them fall away.
"""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from tessy.core.edges import LONG_STRETCH_CHARS, edges
from tessy.core.records import Author, Key, SegmentKey
from tessy.core.seeds import derive_seed

_WORD = re.compile(r"\S+")
_Bounds = tuple[int, int]  # [start, end) in chars


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled thinking, to which question, and who wrote it."""

    id: str
    sample: int
    question: str
    author: Author
    thinking: str

    @property
    def key(self) -> Key:
        """Its key in its run."""
        return self.id, self.sample


@dataclass(frozen=True, slots=True)
class TextSegment:
    """Some words of a response.

    Attributes:
        id: The question's id.
        sample: Which response to it.
        segment: Its place in the order in which the response's segments are drawn.
        question: What tells the question from others (:func:`tessy.core.records.question_digest`).
        author: Who wrote it.
        start: Where it begins in the thinking, in chars.
        text: From the first char of its first word to the last char of its last one, verbatim.
    """

    id: str
    sample: int
    segment: int
    question: str
    author: Author
    start: int
    text: str

    @property
    def key(self) -> SegmentKey:
        """Its key among annotations."""
        return self.id, self.sample, self.segment


def words(text: str) -> list[_Bounds]:
    """Bounds of the words of ``text``: runs of non-spaces, as ``[start, end)`` in chars.

    A run of more than 40 characters (Chinese, long LaTeX) is cut where one author could hand over
    to another: at Unicode word boundaries.
    """
    found = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        if end - start > LONG_STRETCH_CHARS:
            cuts = [start, *(start + edge for edge in edges(match[0]))]
            found += list(pairwise(cuts))
        else:
            found.append((start, end))
    return found


def pieces(text: str, size: int, draw: random.Random) -> list[_Bounds]:
    """``text`` in stretches of ``size`` words, as bounds in chars, ascending.

    Where the first whole stretch begins is drawn; what remains at either end is kept if it is at
    least half a stretch. A text of at most ``size`` words is one piece.
    """
    found = words(text)
    if not found:
        return []
    if len(found) <= size:
        return [(found[0][0], found[-1][1])]
    # No later than leaves room for one whole stretch.
    phase = draw.randrange(min(size, len(found) - size + 1))
    cuts = [0, *range(phase, len(found), size), len(found)]
    stretches = [(a, b) for a, b in pairwise(cuts) if 2 * (b - a) >= size]
    return [(found[a][0], found[b - 1][1]) for a, b in stretches]


def segments_of(response: Response, *, size: int, seed: int) -> Iterator[TextSegment]:
    """The segments of one response in the order in which they are drawn.

    Args:
        response: The response.
        size: Words of a segment.
        seed: Seed of the run.
    """
    draw = random.Random(derive_seed(seed, "segments", *response.key))
    bounds = pieces(response.thinking, size, draw)
    draw.shuffle(bounds)
    for number, (start, end) in enumerate(bounds):
        yield TextSegment(
            response.id,
            response.sample,
            number,
            response.question,
            response.author,
            start,
            response.thinking[start:end],
        )


def draw_segments(
    responses: Iterable[Response], *, size: int, per_response: int, total: int, seed: int
) -> list[TextSegment]:
    """Segments to annotate, evenly over responses, in the order in which they are drawn.

    Args:
        responses: Read once, one at a time.
        size: Words of a segment.
        per_response: Segments taken of one response at most.
        total: Segments taken at most; only so many are held in memory.
        seed: Seed of the run.
    """

    def ranked() -> Iterator[tuple[int, int, TextSegment]]:
        for response in responses:
            rank = derive_seed(seed, "round", *response.key)
            for segment in islice(segments_of(response, size=size, seed=seed), per_response):
                yield segment.segment, rank, segment

    # Rounds first; within a round by a number that does not depend on the other responses.
    best = heapq.nsmallest(total, ranked(), key=lambda item: (item[0], item[1], item[2].key))
    return [segment for _, _, segment in best]
