"""Sampled responses of one author, and choosing the segments of their thinking to annotate.

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
from pathlib import Path
from typing import Any

from tessy.core.edges import LONG_STRETCH_CHARS, edges
from tessy.core.errors import InputError, RunError
from tessy.core.records import Author, SegmentKey, Trajectory, problem_digest
from tessy.core.seeds import derive_seed
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures, iter_trajectories, read_config

_WORD = re.compile(r"\S+")
_SHOWN_FAULTS = 20
Bounds = tuple[int, int]  # [start, end) in chars


class Responses:
    """The responses of a run, and its config.json; ``count`` of them were read so far."""

    def __init__(self, directory: Path) -> None:
        self.document: dict[str, Any] = read_config(directory)
        self.count = 0
        self._directory = directory

    def read(self) -> Iterator[Trajectory]:
        """Yield the responses in file order.

        Raises:
            InputError: After the last row: some rows, which are listed, cannot be annotated.
            RunError: After the last row: there was no response.
        """
        files = RunPaths(self._directory).row_files()
        file = files[0] if len(files) == 1 else self._directory
        faults = []
        first: Author | None = None
        for row in iter_trajectories(self._directory):
            if not row.thinking.strip():
                fault = "it has no thinking"
            elif len({span.author for span in row.spans}) > 1:
                fault = "its thinking is by both student and teacher"
            elif first not in (None, row.spans[0].author):
                fault = (
                    f"its thinking is by the {row.spans[0].author}, that of earlier rows by the "
                    f"{first}"
                )
            else:
                first = row.spans[0].author
                self.count += 1
                yield row
                continue
            faults.append(f"  {file}: {row.id}/{row.sample}: {fault}")
        if faults:
            shown, more = "\n".join(faults[:_SHOWN_FAULTS]), len(faults) - _SHOWN_FAULTS
            raise InputError(
                f"{len(faults)} response(s) cannot be annotated:\n{shown}"
                + (f"\n  … and {more} more" if more > 0 else "")
                + "\ngive a run of one model's own responses, as written by `tessy sample`"
            )
        if not self.count:
            raise RunError(f"{self._directory} has no finished response to annotate")

    def count_failed(self) -> int:
        """Return the number of failed samples, which are skipped."""
        return sum(1 for _ in iter_failures(self._directory))


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


def segments_of(response: Trajectory, *, size: int, seed: int) -> Iterator[TextSegment]:
    """Yield the segments of one response, of ``size`` words each, in drawing order."""
    draw = random.Random(derive_seed(seed, "segments", *response.key))
    bounds = split_stretches(response.thinking, size, draw)
    draw.shuffle(bounds)
    question, author = problem_digest(response.messages), response.spans[0].author
    for number, (start, end) in enumerate(bounds):
        text = response.thinking[start:end]
        yield TextSegment(*response.key, number, question, author, start, text)


def draw_segments(
    responses: Iterable[Trajectory], *, size: int, per_response: int, total: int, seed: int
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
