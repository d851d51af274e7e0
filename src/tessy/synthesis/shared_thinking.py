"""The shared text while it is written: pieces by author, and each model's ids of it (pure).

Own tokens stay as sampled; what the other wrote is encoded once, piece by piece. Pieces only ever
get appended, so a journal can keep them as they come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tessy.core.records import Author, Span, other
from tessy.tokenization.token_ids import Codec, Draft, TokenIds, split_tail

_COMPACT = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """What the machine must know of one author.

    Attributes:
        codec: Its tokenizer.
        prompt: Ids of the question in its format, up to the open thinking.
        stop_ids: Its ids that end the thinking.
        request_tokens: Most tokens one request may draft.
        room_tokens: Most thinking tokens its context holds beside the prompt (its own tokens).
        sees_next: Its boundary predictor knows the class of what is not written yet.
        redraws: A second draw at the same place may differ (temperature above 0).
        ending_ids: The stop ids, and all others that are markup.
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
        """Looked at for every token, so put together once."""
        object.__setattr__(self, "ending_ids", self.stop_ids | self.codec.control_ids)


@dataclass(frozen=True, slots=True)
class AuthoredText:
    """Text one author wrote, and both models' ids of it."""

    author: Author
    text: str
    student_ids: tuple[int, ...]
    teacher_ids: tuple[int, ...]

    def ids(self, author: Author) -> tuple[int, ...]:
        """The ids of one model."""
        return self.student_ids if author == "student" else self.teacher_ids

    def to_json(self) -> bytes:
        """For the journal."""
        row = [self.author, self.text, self.student_ids, self.teacher_ids]
        return _COMPACT.encode(row).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Undo :meth:`to_json`."""
        author, text, student_ids, teacher_ids = json.loads(data)
        return cls(author, text, tuple(student_ids), tuple(teacher_ids))


@dataclass(frozen=True, slots=True)
class ThinkingResult:
    """What has been thought so far, whoever wrote it.

    Attributes:
        text: The thinking, without white space at its ends once it is whole.
        spans: Who wrote what; tiles the text.
        ids: Ids of the text, of the rows' model.
        kept: How many of them are whose, by author.
        forced: Units kept against the predictors, by author.
        glued: Hand-overs inside a word.
    """

    text: str = ""
    spans: tuple[Span, ...] = ()
    ids: list[int] = field(default_factory=list)
    kept: Mapping[Author, int] = field(default_factory=dict)
    forced: Mapping[Author, int] = field(default_factory=dict)
    glued: int = 0


@dataclass(frozen=True, slots=True)
class GeneratedResponse:
    """Thinking and answer, whole or as far as they have come, in the tokens of the rows' model.

    Attributes:
        thought: The thinking.
        answer: The answer.
        answer_ids: Its ids.
        answer_by: Who wrote it, or would have.
    """

    thought: ThinkingResult
    answer: str
    answer_ids: list[int]
    answer_by: Author

    @property
    def tokens(self) -> int:
        """Tokens in all."""
        return len(self.thought.ids) + len(self.answer_ids)

    def to_json(self) -> dict[str, Any]:
        """For the journal, where one author wrote all of it."""
        thought = self.thought
        return {
            "author": self.answer_by,
            "thinking": [thought.text, thought.ids],
            "answer": [self.answer, self.answer_ids],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_json`."""
        author: Author = saved["author"]
        text, ids = saved["thinking"]
        spans = (Span(start=0, end=len(text), author=author),) if text else ()
        answer, answer_ids = saved["answer"]
        return cls(ThinkingResult(text, spans, ids, {author: len(ids)}), answer, answer_ids, author)


class SharedThinking:
    """The kept text with its spans and ids.

    Attributes:
        text: The thinking so far.
        ids: Prompt and thinking ids, by model.
        pieces: What was appended since they were last taken, in order.
    """

    def __init__(self, student: RoleSpec, teacher: RoleSpec) -> None:
        """Nothing written; both prompts are in place."""
        self._parties: dict[Author, RoleSpec] = {"student": student, "teacher": teacher}
        self.text = ""
        self.ids: dict[Author, TokenIds] = {
            author: TokenIds(party.prompt) for author, party in self._parties.items()
        }
        self.pieces: list[AuthoredText] = []
        self._spans: list[tuple[Author, int]] = []  # author, end; in chars
        self.kept_tokens: dict[Author, int] = {"student": 0, "teacher": 0}

    def append(self, author: Author, text: str, own_ids: list[int]) -> None:
        """Keep ``text``, written by ``author`` as ``own_ids``."""
        if text:
            self.replay(self.piece(author, text, own_ids))

    def piece(self, author: Author, text: str, own_ids: list[int]) -> AuthoredText:
        """What :meth:`append` appends; ``text`` is encoded for the other model."""
        foreign = self._parties[other(author)].codec.encode(text)
        student, teacher = (own_ids, foreign) if author == "student" else (foreign, own_ids)
        return AuthoredText(author, text, tuple(student), tuple(teacher))

    def replay(self, piece: AuthoredText) -> None:
        """Append a piece as it is."""
        self.pieces.append(piece)
        self.text += piece.text
        self.ids["student"].extend(piece.student_ids)
        self.ids["teacher"].extend(piece.teacher_ids)
        self.kept_tokens[piece.author] += len(piece.student_ids)
        if self._spans and self._spans[-1][0] == piece.author:
            self._spans.pop()
        self._spans.append((piece.author, len(self.text)))

    def take_texts(self) -> list[AuthoredText]:
        """``pieces``, which are not kept any longer: they hold the text and all ids once more."""
        taken, self.pieces = self.pieces, []
        return taken

    def length(self, author: Author) -> int:
        """Thinking tokens in that model's own tokens."""
        return len(self.ids[author]) - len(self._parties[author].prompt)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Who wrote what; tiles the text."""
        starts = [0, *(end for _, end in self._spans)]
        return tuple(
            Span(start=start, end=end, author=author)
            for start, (author, end) in zip(starts, self._spans, strict=False)
        )

    @property
    def student_ids(self) -> list[int]:
        """The student's ids of the thinking, without the prompt."""
        return list(self.ids["student"].ids[len(self._parties["student"].prompt) :])

    def trim_end(self) -> None:
        """Drop trailing white space: it belongs to the end marker, not to the thinking."""
        blank = len(self.text) - len(self.text.rstrip())
        if not blank:
            return
        before = self.length("student")
        for author, party in self._parties.items():
            ids = self.ids[author].ids[len(party.prompt) :]
            kept, taken = split_tail(party.codec, ids, self.text, blank)
            kept += party.codec.encode(taken[: len(taken) - blank])
            self.ids[author] = TokenIds([*party.prompt, *kept])
        self.text = self.text[: len(self.text) - blank]
        self.kept_tokens[self._spans[-1][0]] -= before - self.length("student")
        while self._spans and self._start_of_last() >= len(self.text):
            self._spans.pop()
        if self._spans:
            self._spans[-1] = (self._spans[-1][0], len(self.text))

    def _start_of_last(self) -> int:
        return self._spans[-2][1] if len(self._spans) > 1 else 0


def keep_aligned(thinking: SharedThinking, author: Author, draft: Draft, end: int) -> Draft:
    """Keep ``draft.text[:end]`` while the draft goes on; what is left of the draft.

    Nothing is kept if a token straddles ``end``: the token must stay as it was sampled.
    """
    count = draft.aligned(end)
    if not count or draft.end_of(count) != end:
        return draft
    thinking.append(author, draft.text[:end], draft.ids[:count])
    return draft.split(count)


def visible_chars(text: str, *, keep_break: bool) -> int:
    """How much of a draft that has ended counts: white space at its end is the end marker's.

    With ``keep_break`` the end is no end of the thinking, and white space that ends in a line
    break stays, so that an edge is there.
    """
    blank = text[len(text.rstrip()) :]
    return len(text) - len(blank) + (blank.rfind("\n") + 1 if keep_break else 0)
