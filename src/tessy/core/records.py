"""Row types: problems, spans, trajectories, annotations, failures.

Offsets are half-open character (code point) offsets into the thinking text. The schema version
of a run is stored once, in its config.json.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
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


class StyleSpan(_RowModel):
    """A style span ``text[start:end]`` of a segment or of a thinking, in chars."""

    start: int = Field(ge=0)
    end: int


class TeacherTrace(_RowModel):
    """A response of another model to a problem, which strategy ``restyle`` rewrites."""

    thinking: str = Field(min_length=1)
    answer: str = ""
    style: tuple[StyleSpan, ...] | None = None  # of the thinking, as annotated; None: not annotated

    @property
    def digest(self) -> str:
        """16 hex digits that identify its content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Problem(_RowModel):
    """A problem read from the input."""

    id: str  # unique in the input; a repeated problem gets `id#2`, `id#3` …
    messages: tuple[Message, ...] = Field(min_length=1)  # up to and including the last user turn
    extra: dict[str, Any] = Field(default_factory=dict)  # all other fields of the input row
    trace: TeacherTrace | None = None

    @property
    def digest(self) -> str:
        """Hex digits that identify equal inputs of a sample: the messages, and the trace."""
        messages = problem_digest(self.messages)
        return messages if self.trace is None else f"{messages}-{self.trace.digest}"


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

    Thinking and answer are counted in student tokens (rows of ``tessy sample``: in the model's
    own). ``drafted`` is what each model generated, in its own tokens: for the thinking, and for
    text the row does not contain (rejected candidates, scores, a reference, answers of earlier
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

    ``unseen`` is what each model generated and no other count has, in its own tokens: stop tokens,
    text around the answer, and an estimate of what the server generates between the close of a
    request and its abort.
    """

    requests: dict[Author, int] = Field(default_factory=_zero_counts)
    # wall clock: student, teacher, predictor, answer
    seconds: dict[str, float] = Field(default_factory=dict)
    unseen: dict[Author, int] = Field(default_factory=_zero_counts)


class Restyling(_RowModel):
    """How strategy ``restyle`` chose the style of a row; a place is a style span of the trace.

    ``draws`` and ``effective`` have an entry for each place before capability: the number of
    candidates, and the effective sample size of their weights.
    """

    trace: str  # digest of the trace
    split_by: str  # rule that classified the trace, or `annotation`
    draws: tuple[int, ...] = ()
    effective: tuple[float, ...] = ()
    empty: int = 0  # places where no words were chosen
    unfit: int = 0  # places without a fitting candidate, which keep the trace's words
    end_draws: int = 0  # of the words after the last capability
    scored_tokens: int = 0  # tokens whose likelihood was computed


class _Outcome(_RowModel):
    """Fields shared by trajectories and failures.

    ``scores`` and ``unscored`` belong to ``teacher-score``, ``reference_answer`` to
    ``teacher-reference``, ``restyle`` to the strategy of that name.
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
    # units kept although assigned to the other author
    forced: dict[Author, int] = Field(default_factory=_zero_counts)
    glued: int = 0  # hand-overs inside a word
    attempts: int = Field(ge=1)
    seconds: float = Field(ge=0)  # wall clock, over all attempts
    cost: Cost = Field(default_factory=Cost)
    # of each candidate: 0 to 10 by the teacher, or 0 and 1 by the reference
    scores: tuple[float | None, ...] = ()
    # reasons for missing scores, by index in `scores`
    unscored: dict[int, FailureReason] = Field(default_factory=dict)
    reference_answer: str | None = None  # the teacher's, as shown to the student
    restyle: Restyling | None = None
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

    ``messages`` are the problem's and one assistant turn in the student's format. ``student_ids``
    are the sampled ids of the student's text and the student's encoding of the teacher's; None if
    the server returned no ids, with ``--no-ids``, and in rows of ``tessy sample`` for a teacher.
    """

    student_ids: StudentIds | None = None
    ended_by: Author  # its stop id ended the thinking


class Failure(_Outcome):
    """A sample that could not be finished: one line of failures.jsonl, with the partial text."""

    reason: FailureReason
    detail: str


EvaluationOutcome = Literal[
    "correct",
    "wrong",
    "no_answer",  # the response ended without an answer
    "truncated",  # the response reached its token limit or looped; nothing was judged
    "judge_error",  # the judge failed, so it is unknown whether the answer is correct
    "unjudged",  # the benchmark's official judge has not decided yet
]


class Evaluation(_Outcome):
    """A judged response to a problem of a benchmark: one line of evaluations.jsonl.

    ``reason`` and ``detail`` state why a response is ``truncated`` or has ``no_answer``, also while
    it is ``unjudged``, and ``detail`` why the judge failed.
    """

    outcome: EvaluationOutcome
    final_answer: str | None = None  # or program, found in the response; None if there is none
    reference: str  # empty for programs
    judge: str  # name and version of what decided, such as `maths 1 (math-verify 0.9.0)`
    # where the final answer was found (boxed, number, last line …), or a verdict about a program
    rule: str = ""
    reason: FailureReason | None = None
    detail: str = ""


class _SegmentRow(_RowModel):
    """A segment of sampled thinking."""

    id: str  # the problem's id
    sample: int = Field(ge=0)  # index of the response to the problem
    segment: int = Field(ge=0)  # index in the response, in drawing order
    question: str = Field(pattern="^[0-9a-f]{16}$")  # :func:`problem_digest`
    author: Author
    start: int = Field(ge=0)  # in the thinking, in chars
    text: str = Field(min_length=1)
    attempts: int = Field(ge=1)  # number of annotation requests

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
    """Return 16 hex digits that identify equal problems across ids and files.

    A final response of the assistant and white space at the ends of a message are ignored.
    """
    answered = bool(messages) and messages[-1].role == "assistant"
    prompt = messages[:-1] if answered else messages
    turns = [(turn.role, turn.content.strip()) for turn in prompt]
    return hashlib.sha256(json.dumps(turns).encode("ascii")).hexdigest()[:16]


def pack_ids(ids: Iterable[int]) -> str:
    """Pack token ids: little-endian uint32, deflated, base64."""
    values = tuple(ids)
    packed = struct.pack(f"<{len(values)}I", *values)
    return base64.b64encode(zlib.compress(packed, 6)).decode("ascii")


def unpack_ids(packed: str) -> list[int]:
    """Unpack ids packed by :func:`pack_ids`."""
    return [
        value for (value,) in struct.iter_unpack("<I", zlib.decompress(base64.b64decode(packed)))
    ]
