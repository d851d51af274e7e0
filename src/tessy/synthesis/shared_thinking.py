"""The shared text while it is written: text by author, and each model's ids of it (pure).

A model's own tokens stay as sampled; the other model's text is encoded once, part by part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from tessy.core.records import Author, Span, other
from tessy.tokenization.token_ids import Codec, TokenIds, split_tail


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """Properties of one author that the cooperation needs.

    Attributes:
        prompt: Ids of the problem in its chat format, up to the open thinking.
        stop_ids: Its ids that end the thinking.
        request_tokens: Maximum tokens of one request.
        room_tokens: Maximum thinking tokens that fit its context beside the prompt (own tokens).
        sees_next: Its predictor returns the class of what is not written yet.
        redraws: A second draw at the same place may differ (temperature above 0).
        ending_ids: The stop ids and all control ids.
    """

    codec: Codec
    prompt: tuple[int, ...]
    stop_ids: frozenset[int]
    request_tokens: int
    room_tokens: int
    sees_next: bool
    redraws: bool
    ending_ids: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        """Compute ``ending_ids`` once, because it is looked up for every token."""
        object.__setattr__(self, "ending_ids", self.stop_ids | self.codec.control_ids)


class AuthoredText(NamedTuple):
    """A part of the text by one author, with both models' ids of it."""

    author: Author
    text: str
    student_ids: tuple[int, ...]
    teacher_ids: tuple[int, ...]

    def ids(self, author: Author) -> tuple[int, ...]:
        """Return the ids of one model."""
        return self.student_ids if author == "student" else self.teacher_ids


@dataclass(frozen=True, slots=True)
class ThinkingResult:
    """The thinking so far, in the tokens of the rows' model.

    Attributes:
        text: The thinking; without white space at its ends once it is complete.
        spans: Authors by character range; they tile the text.
        kept: Number of ids by author.
        forced: Units kept against the predictors, by author.
        mid_word_handovers: Hand-overs inside a word.
    """

    text: str = ""
    spans: tuple[Span, ...] = ()
    ids: list[int] = field(default_factory=list)
    kept: Mapping[Author, int] = field(default_factory=dict)
    forced: Mapping[Author, int] = field(default_factory=dict)
    mid_word_handovers: int = 0


@dataclass(frozen=True, slots=True)
class GeneratedResponse:
    """Thinking and answer, complete or partial, in the tokens of the rows' model."""

    thinking: ThinkingResult
    answer: str
    answer_ids: list[int]
    answer_by: Author

    def to_json(self) -> dict[str, Any]:
        """Serialize a response by one author for the journal."""
        thinking = self.thinking
        return {
            "author": self.answer_by,
            "thinking": [thinking.text, thinking.ids],
            "answer": [self.answer, self.answer_ids],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        author: Author = saved["author"]
        text, ids = saved["thinking"]
        spans = (Span(start=0, end=len(text), author=author),) if text else ()
        answer, answer_ids = saved["answer"]
        return cls(ThinkingResult(text, spans, ids, {author: len(ids)}), answer, answer_ids, author)


class SharedThinking:
    """The kept text with its spans and each model's ids of prompt and thinking.

    Attributes:
        pieces: Parts appended since the last :meth:`take_texts`, in order.
        kept_tokens: Kept tokens by author, in the student's tokens.
        forced: Units kept against the predictors, by author.
        mid_word_handovers: Hand-overs inside a word.
    """

    def __init__(self, student: RoleSpec, teacher: RoleSpec) -> None:
        self._roles: dict[Author, RoleSpec] = {"student": student, "teacher": teacher}
        self.text = ""
        self.ids: dict[Author, TokenIds] = {
            author: TokenIds(role.prompt) for author, role in self._roles.items()
        }
        self.pieces: list[AuthoredText] = []
        self._spans: list[tuple[Author, int]] = []  # author, end; in chars
        self.kept_tokens: dict[Author, int] = {"student": 0, "teacher": 0}
        self.forced: dict[Author, int] = {"student": 0, "teacher": 0}
        self.mid_word_handovers = 0

    def piece(self, author: Author, text: str, own_ids: list[int]) -> AuthoredText:
        """Return the part that ``author`` wrote; ``text`` is encoded for the other model."""
        foreign = self._roles[other(author)].codec.encode(text)
        student, teacher = (own_ids, foreign) if author == "student" else (foreign, own_ids)
        return AuthoredText(author, text, tuple(student), tuple(teacher))

    def append(self, piece: AuthoredText) -> None:
        """Append a part."""
        self.pieces.append(piece)
        self.text += piece.text
        self.ids["student"].extend(piece.student_ids)
        self.ids["teacher"].extend(piece.teacher_ids)
        self.kept_tokens[piece.author] += len(piece.student_ids)
        if self._spans and self._spans[-1][0] == piece.author:
            self._spans.pop()
        self._spans.append((piece.author, len(self.text)))

    def take_texts(self) -> list[AuthoredText]:
        """Return the parts appended since the last call, and release them."""
        taken, self.pieces = self.pieces, []
        return taken

    def length(self, author: Author) -> int:
        """Return the number of thinking tokens in that model's own tokens."""
        return len(self.ids[author]) - len(self._roles[author].prompt)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Authors by character range; they tile the text."""
        starts = [0, *(end for _, end in self._spans)]
        return tuple(
            Span(start=start, end=end, author=author)
            for start, (author, end) in zip(starts, self._spans, strict=False)
        )

    @property
    def student_ids(self) -> list[int]:
        """The student's ids of the thinking, without the prompt."""
        return list(self.ids["student"].ids[len(self._roles["student"].prompt) :])

    def trim_end(self) -> None:
        """Drop trailing white space, which belongs to the end marker and not to the thinking."""
        blank = len(self.text) - len(self.text.rstrip())
        if not blank:
            return
        before = self.length("student")
        for author, role in self._roles.items():
            ids = self.ids[author].ids[len(role.prompt) :]
            kept, taken = split_tail(role.codec, ids, self.text, blank)
            kept += role.codec.encode(taken[: len(taken) - blank])
            self.ids[author] = TokenIds([*role.prompt, *kept])
        self.text = self.text[: len(self.text) - blank]
        self.kept_tokens[self._spans[-1][0]] -= before - self.length("student")
        end = len(self.text)
        self._spans = [(s.author, min(s.end, end)) for s in self.spans if s.start < end]

    def result(self) -> ThinkingResult:
        """Return the text with the student's ids and the counts."""
        return ThinkingResult(
            self.text,
            self.spans,
            self.student_ids,
            self.kept_tokens,
            self.forced,
            self.mid_word_handovers,
        )


def visible_chars(text: str, *, keep_break: bool) -> int:
    """Return how many characters of a finished draft count, without white space at its end.

    With ``keep_break`` the text continues, and white space that ends in a line break is kept, so
    that there is an edge.
    """
    blank = text[len(text.rstrip()) :]
    return len(text) - len(blank) + (blank.rfind("\n") + 1 if keep_break else 0)
