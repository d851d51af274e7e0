"""Choosing the segments of sampled thinking to annotate (pure).

The segments of a response depend only on the seed, its key and its text. They are drawn in rounds,
one of every response, so an additional response only displaces the last ones drawn.
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
Bounds = tuple[int, int]  # [start, end) in chars


@dataclass(frozen=True, slots=True)
class Response:
    """The thinking of one sampled response; ``question`` is the digest of the problem."""

    id: str
    sample: int
    question: str
    author: Author
    thinking: str

    @property
    def key(self) -> Key:
        """Key of the response in its run."""
        return self.id, self.sample


@dataclass(frozen=True, slots=True)
class TextSegment:
    """Consecutive words of a response: its ``text`` from the first to the last word, verbatim."""

    id: str
    sample: int
    segment: int  # index in the drawing order of the response
    question: str  # digest of the problem (:func:`tessy.core.records.problem_digest`)
    author: Author
    start: int  # offset in the thinking, in chars
    text: str

    @property
    def key(self) -> SegmentKey:
        """Key of the segment among annotations."""
        return self.id, self.sample, self.segment

    @property
    def name(self) -> str:
        """Name for progress and messages."""
        return f"{self.id}/{self.sample}/{self.segment}"


def words(text: str) -> list[Bounds]:
    """Return the bounds of the words of ``text``: runs of non-spaces, as ``[start, end)`` in chars.

    A run of more than 40 characters (Chinese, long LaTeX) is split at its Unicode word boundaries.
    """
    bounds = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        if end - start > LONG_STRETCH_CHARS:
            cuts = [start, *(start + edge for edge in edges(match[0]))]
            bounds += list(pairwise(cuts))
        else:
            bounds.append((start, end))
    return bounds


def split_stretches(text: str, size: int, draw: random.Random) -> list[Bounds]:
    """Split ``text`` into stretches of ``size`` words; returns ascending bounds in chars.

    The start of the first full stretch is random; the remainders at both ends are kept if they have
    at least half the size. A text of at most ``size`` words is one stretch.
    """
    bounds = words(text)
    if not bounds:
        return []
    if len(bounds) <= size:
        return [(bounds[0][0], bounds[-1][1])]
    # At least one full stretch must fit after it.
    phase = draw.randrange(min(size, len(bounds) - size + 1))
    cuts = [0, *range(phase, len(bounds), size), len(bounds)]
    stretches = [(a, b) for a, b in pairwise(cuts) if 2 * (b - a) >= size]
    return [(bounds[a][0], bounds[b - 1][1]) for a, b in stretches]


def segments_of(response: Response, *, size: int, seed: int) -> Iterator[TextSegment]:
    """Yield the segments of one response, of ``size`` words each, in drawing order."""
    draw = random.Random(derive_seed(seed, "segments", *response.key))
    bounds = split_stretches(response.thinking, size, draw)
    draw.shuffle(bounds)
    for number, (start, end) in enumerate(bounds):
        text = response.thinking[start:end]
        yield TextSegment(*response.key, number, response.question, response.author, start, text)


def draw_segments(
    responses: Iterable[Response], *, size: int, per_response: int, total: int, seed: int
) -> list[TextSegment]:
    """Draw at most ``total`` segments, evenly over responses; returns them in drawing order."""

    def ranked() -> Iterator[tuple[int, int, TextSegment]]:
        for response in responses:
            rank = derive_seed(seed, "round", *response.key)
            for segment in islice(segments_of(response, size=size, seed=seed), per_response):
                yield segment.segment, rank, segment

    # By round; within a round by a rank that does not depend on the other responses.
    best = heapq.nsmallest(total, ranked(), key=lambda item: (item[0], item[1], item[2].key))
    return [segment for _, _, segment in best]
