"""The rows tessy reads and writes: problems, spans, trajectories, annotations, failures.

Offsets are half-open character (code point) offsets into the thinking text. The schema version of
a run is written once, in its config.json.
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
Key = tuple[str, int]  # (problem id, sample index): what identifies a row in a run
SegmentKey = tuple[str, int, int]  # (problem id, sample index, segment index)


def other(author: Author) -> Author:
    """Return the other author."""
    return "teacher" if author == "student" else "student"


def _nothing_yet() -> dict[Author, int]:
    return {"student": 0, "teacher": 0}


class _RowModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_RowModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Problem(_RowModel):
    """One question, as read from the input.

    Attributes:
        id: Unique within the input; a repeated question is ``id#2``, ``id#3`` …
        messages: The conversation up to and including the last user turn.
        extra: Every other field of the input row, untouched.
    """

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    extra: dict[str, Any] = Field(default_factory=dict)


class Span(_RowModel):
    """Who wrote ``thinking[start:end]``."""

    start: int = Field(ge=0)
    end: int
    author: Author

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end <= self.start:
            raise ValueError(
                f"a span covers at least one character, got [{self.start}, {self.end})"
            )
        return self


class TokenCounts(_RowModel):
    """Tokens of a sample.

    ``student``, ``teacher`` and ``answer`` are kept tokens, counted with the student's tokenizer
    (rows of ``sample``: with the model's own);
    ``drafted`` is what each model generated for the thinking, counted in its own tokens, and all
    it generated for what the row does not keep: candidates that lost, scores, a reference, answers
    of earlier attempts.
    """

    student: int = 0
    teacher: int = 0
    answer: int = 0
    drafted: dict[Author, int] = Field(default_factory=_nothing_yet)


class StudentIds(_RowModel):
    """The student's token ids of thinking and answer, each packed by :func:`pack_ids`."""

    thinking: str
    answer: str


class Cost(_RowModel):
    """What a sample used, over all of its attempts.

    Attributes:
        requests: Requests sent, by role.
        seconds: Wall-clock seconds by part: ``student``, ``teacher``, ``predictor``, ``answer``.
    """

    requests: dict[Author, int] = Field(default_factory=_nothing_yet)
    seconds: dict[str, float] = Field(default_factory=dict)


class _Outcome(_RowModel):
    """What trajectories and failures have in common.

    Attributes:
        strategy: How it was made.
        answer_by: Who wrote the answer; who wrote the thinking stands in ``spans``.
        scores: Of ``teacher-score``: each candidate's score, 0 to 10 by the teacher, 0 or 1 by the
            reference answer; None for one without. The first of the best ones is the row.
        unscored: Why candidates have none, by their place in ``scores`` (from 0).
        reference_answer: Of ``teacher-reference``: the teacher's answer that the student was shown.
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
    forced: dict[Author, int] = Field(default_factory=_nothing_yet)
    glued: int = 0  # hand-overs where the receiver went on inside a word
    attempts: int = Field(ge=1)
    seconds: float = Field(ge=0)  # wall-clock, over all attempts
    cost: Cost = Field(default_factory=Cost)
    scores: tuple[float | None, ...] = ()
    unscored: dict[int, FailureReason] = Field(default_factory=dict)
    reference_answer: str | None = None
    problem: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What identifies the row in a run."""
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
        messages: The question's messages and one assistant turn in the student's format.
        student_ids: As sampled where the student wrote, its encoding of what the teacher wrote.
            Absent when the student's server returned no ids, with ``--no-ids``, and in rows of
            ``sample`` by a teacher.
        ended_by: Whose stop id ended the thinking.
    """

    student_ids: StudentIds | None = None
    ended_by: Author


class Failure(_Outcome):
    """A sample that could not be finished: one line of failures.jsonl, with its text so far."""

    reason: FailureReason
    detail: str


class StyleSpan(_RowModel):
    """Style in a segment: ``text[start:end]``, offsets in chars."""

    start: int = Field(ge=0)
    end: int


class _SegmentRow(_RowModel):
    """A piece of sampled thinking.

    Attributes:
        id: The question's id.
        sample: Which response to it.
        segment: Which segment of the response, in the order they were drawn.
        question: What tells the question from others (:func:`question_digest`).
        author: Who wrote it.
        start: Where it begins in the thinking, in chars.
        text: Its words.
        attempts: Times the annotator was asked.
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
        """What identifies the row among annotations."""
        return self.id, self.sample, self.segment


class Annotation(_SegmentRow):
    """A segment with its style: one line of annotations.jsonl; all else is capability."""

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


def question_digest(messages: Sequence[Message]) -> str:
    """Return what tells a question from others: 16 hex digits of the SHA-256 of its messages.

    Ids do not: one question may come under several, and ids say nothing of each other.

    Args:
        messages: The question's messages, with or without the response to them, an assistant's
            turn in the end. White space at the ends of a message does not count.
    """
    answered = bool(messages) and messages[-1].role == "assistant"
    asked = messages[:-1] if answered else messages
    turns = [(turn.role, turn.content.strip()) for turn in asked]
    return hashlib.sha256(json.dumps(turns).encode("ascii")).hexdigest()[:16]


def pack_ids(ids: Iterable[int]) -> str:
    """Pack token ids: little-endian uint32, deflated, base64."""
    values = array("I", ids)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode("ascii")


def unpack_ids(packed: str) -> list[int]:
    """Undo :func:`pack_ids`."""
    values = array("I")
    values.frombytes(zlib.decompress(base64.b64decode(packed)))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
