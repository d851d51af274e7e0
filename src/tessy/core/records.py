"""Row types: problems, spans, trajectories, annotations, failures.

Offsets are half-open character (code point) offsets into the thinking text. The schema version
of a run is stored once, in its config.json.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tessy.core.errors import AnnotationFailureReason, FailureReason

SCHEMA_VERSION = 1

Author = Literal["student", "teacher"]
AUTHORS: tuple[Author, ...] = get_args(Author)
Key = tuple[str, int]  # (problem id, sample index), unique in a run
SegmentKey = tuple[str, int, int]  # (problem id, sample index, segment index)


def other(author: Author) -> Author:
    """Return the other author."""
    return "teacher" if author == "student" else "student"


def _zero_counts() -> dict[Author, int]:
    return {"student": 0, "teacher": 0}


class _RowModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_RowModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Problem(_RowModel):
    """A problem read from the input.

    Attributes:
        id: Unique within the input; a repeated problem gets ``id#2``, ``id#3`` …
        messages: The conversation up to and including the last user turn.
        extra: All other fields of the input row, unchanged.
    """

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    extra: dict[str, Any] = Field(default_factory=dict)


class Span(_RowModel):
    """The author of ``thinking[start:end]``."""

    start: int = Field(ge=0)
    end: int
    author: Author

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end <= self.start:
            raise ValueError(
                f"a span must cover at least one character, got [{self.start}, {self.end})"
            )
        return self


class TokenCounts(_RowModel):
    """Token counts of a sample.

    Attributes:
        student: Kept thinking tokens by the student, in student tokens (rows of ``tessy sample``:
            in the model's own tokens), as are ``teacher`` and ``answer``.
        teacher: Kept thinking tokens by the teacher.
        answer: Tokens of the answer.
        drafted: Tokens each model generated, in its own tokens: for the thinking, and for text
            the row does not contain (rejected candidates, scores, a reference, answers of earlier
            attempts).
    """

    student: int = 0
    teacher: int = 0
    answer: int = 0
    drafted: dict[Author, int] = Field(default_factory=_zero_counts)


class StudentIds(_RowModel):
    """Student token ids of thinking and answer, each packed with :func:`pack_ids`."""

    thinking: str
    answer: str


class Cost(_RowModel):
    """Resources used by a sample over all of its attempts.

    Attributes:
        requests: Number of requests by role.
        seconds: Wall-clock seconds by part: ``student``, ``teacher``, ``predictor``, ``answer``.
    """

    requests: dict[Author, int] = Field(default_factory=_zero_counts)
    seconds: dict[str, float] = Field(default_factory=dict)


class _Outcome(_RowModel):
    """Fields shared by trajectories and failures.

    Attributes:
        strategy: Name of the strategy.
        answer_by: Author of the answer; the authors of the thinking are in ``spans``.
        forced: Units kept although the predictor assigned them to the other author, by author.
        glued: Hand-overs inside a word.
        seconds: Wall-clock seconds over all attempts.
        scores: ``teacher-score`` only: the score of each candidate, 0 to 10 from the teacher, 0 or
            1 from the reference answer; None without a score. The row is the first of the best.
        unscored: Reasons for missing scores, by index in ``scores``.
        reference_answer: ``teacher-reference`` only: the teacher's answer shown to the student.
    """

    id: str
    sample: int = Field(ge=0)
    strategy: str
    messages: tuple[Message, ...]
    thinking: str
    answer: str
    answer_by: Author = "student"
    spans: tuple[Span, ...]
    tokens: TokenCounts
    forced: dict[Author, int] = Field(default_factory=_zero_counts)
    glued: int = 0
    attempts: int = Field(ge=1)
    seconds: float = Field(ge=0)
    cost: Cost = Field(default_factory=Cost)
    scores: tuple[float | None, ...] = ()
    unscored: dict[int, FailureReason] = Field(default_factory=dict)
    reference_answer: str | None = None
    problem: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Key of the row in its run."""
        return self.id, self.sample

    @model_validator(mode="after")
    def _spans_tile(self) -> Self:
        position = 0
        for span in self.spans:
            if span.start != position:
                raise ValueError(f"spans must tile the thinking: gap or overlap at {position}")
            position = span.end
        if position != len(self.thinking):
            raise ValueError(
                f"spans end at {position}, but the thinking has {len(self.thinking)} characters"
            )
        return self


class Trajectory(_Outcome):
    """A finished sample: one line of trajectories.jsonl.

    Attributes:
        messages: The problem's messages and one assistant turn in the student's format.
        student_ids: Sampled ids of the student's text, and the student's encoding of the teacher's
            text. None if the student's server returned no ids, with ``--no-ids``, and in rows of
            ``tessy sample`` for a teacher.
        ended_by: Author whose stop id ended the thinking.
    """

    student_ids: StudentIds | None = None
    ended_by: Author


class Failure(_Outcome):
    """A sample that could not be finished: one line of failures.jsonl, with the partial text."""

    reason: FailureReason
    detail: str


class StyleSpan(_RowModel):
    """A style span ``text[start:end]`` of a segment, in chars."""

    start: int = Field(ge=0)
    end: int


class _SegmentRow(_RowModel):
    """A segment of sampled thinking.

    Attributes:
        id: The problem's id.
        sample: Index of the response to the problem.
        segment: Index of the segment in its response, in drawing order.
        question: Digest of the problem (:func:`problem_digest`).
        author: Author of the response.
        start: Start of the segment in the thinking, in chars.
        text: Text of the segment.
        attempts: Number of annotation requests.
    """

    id: str
    sample: int = Field(ge=0)
    segment: int = Field(ge=0)
    question: str = Field(pattern="^[0-9a-f]{16}$")
    author: Author
    start: int = Field(ge=0)
    text: str = Field(min_length=1)
    attempts: int = Field(ge=1)

    @property
    def key(self) -> SegmentKey:
        """Key of the row among annotations."""
        return self.id, self.sample, self.segment


class Annotation(_SegmentRow):
    """An annotated segment: one line of annotations.jsonl. Text outside ``style`` is capability."""

    style: tuple[StyleSpan, ...]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        position = 0
        for span in self.style:
            if not position <= span.start < span.end <= len(self.text):
                raise ValueError(
                    f"style spans must be ascending, apart and inside the text of "
                    f"{len(self.text)} characters, got [{span.start}, {span.end})"
                )
            position = span.end
        return self


class FailedAnnotation(_SegmentRow):
    """A segment that could not be annotated: one line of failures.jsonl, with the last reply."""

    reason: AnnotationFailureReason
    detail: str
    reply: str


def problem_digest(messages: Sequence[Message]) -> str:
    """Return 16 hex digits of the SHA-256 of a problem's messages.

    Identifies equal problems across ids and files.

    Args:
        messages: The problem's messages, optionally followed by the assistant's response, which
            is ignored. White space at the ends of a message is ignored.
    """
    answered = bool(messages) and messages[-1].role == "assistant"
    prompt = messages[:-1] if answered else messages
    turns = [(turn.role, turn.content.strip()) for turn in prompt]
    return hashlib.sha256(json.dumps(turns).encode("ascii")).hexdigest()[:16]


def pack_ids(ids: Iterable[int]) -> str:
    """Pack token ids: little-endian uint32, deflated, base64."""
    values = array("I", ids)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode("ascii")


def unpack_ids(packed: str) -> list[int]:
    """Unpack ids packed by :func:`pack_ids`."""
    values = array("I")
    values.frombytes(zlib.decompress(base64.b64decode(packed)))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
