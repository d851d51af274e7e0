"""A thinking that grows by the student's style and by the trace's capability (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tessy.core.edges import EdgeCursor, cursor_before
from tessy.core.records import Author, Span
from tessy.synthesis.shared_thinking import ThinkingResult
from tessy.tokenization.token_ids import Codec, TokenIds


class RestyledPart(NamedTuple):
    """A part of the thinking, in the student's ids."""

    author: Author
    text: str
    ids: tuple[int, ...]


class RestyledThinking:
    """The text so far, in parts, and the student's ids of the prompt and the text.

    Attributes:
        base: An edge from which the edges of any continuation can be found.
    """

    def __init__(self, codec: Codec, prompt: Iterable[int]) -> None:
        self._codec = codec
        self._prompt = tuple(prompt)
        self.parts: list[RestyledPart] = []
        self.text = ""
        self.ids = TokenIds(self._prompt)
        self.base = EdgeCursor(0)

    def __len__(self) -> int:
        """Return the number of tokens of the text."""
        return len(self.ids) - len(self._prompt)

    def encoded(self, author: Author, text: str) -> RestyledPart:
        """Return a part that is not sampled but encoded."""
        return RestyledPart(author, text, tuple(self._codec.encode(text)))

    def append(self, part: RestyledPart) -> None:
        """Append a part; an empty one changes nothing."""
        if not part.text:
            return
        self.parts.append(part)
        self.text += part.text
        self.ids.extend(part.ids)
        self.base = cursor_before(self.text, self.base, len(self.text))

    def finish(self) -> None:
        """Drop white space at the end, which belongs to the end marker."""
        while self.parts and not self.parts[-1].text.strip():
            self.parts.pop()
        if self.parts:
            last = self.parts[-1]
            if last.text != last.text.rstrip():
                self.parts[-1] = self.encoded(last.author, last.text.rstrip())
        self.text = "".join(part.text for part in self.parts)
        self.ids = TokenIds((*self._prompt, *(i for part in self.parts for i in part.ids)))

    def text_in(self, codec: Codec) -> tuple[str, list[int]]:
        """Return the text with ids of ``codec``, which is the student's."""
        return self.text, [i for part in self.parts for i in part.ids]

    def state(self) -> None:
        """Return None: each place is saved as a finished part of the sample."""

    def thinking_result(self, codec: Codec | None = None) -> ThinkingResult:
        """Return the text with its authors; the trace's words are the teacher's."""
        spans: list[Span] = []
        kept: dict[Author, int] = {"student": 0, "teacher": 0}
        end = 0
        for part in self.parts:
            start, end = end, end + len(part.text)
            kept[part.author] += len(part.ids)
            if spans and spans[-1].author == part.author:
                start = spans.pop().start
            spans.append(Span(start=start, end=end, author=part.author))
        return ThinkingResult(self.text, tuple(spans), self.text_in(self._codec)[1], kept)


def joined(before: str, separator: str, text: str) -> str:
    """Return ``text`` with the white space that it needs after ``before``.

    ``separator`` is the white space that stood before it in the trace. Two numbers, or words
    without it, never become one.
    """
    if not before or before[-1].isspace():
        return text.lstrip()
    if not separator and _fuse(before[-1], text[:1]):
        separator = " "
    return text if text[:1].isspace() else separator + text


def _fuse(last: str, first: str) -> bool:
    """Return whether two characters side by side are of one word, in scripts with spaces."""
    return (last + first).isalnum() and all(c.isascii() or c.isdigit() for c in (last, first))


def keeps_in_order(thinking: str, capability: Iterable[str]) -> bool:
    """Return whether all pieces are found in ``thinking``, one after another."""
    position = 0
    for piece in capability:
        found = thinking.find(piece.strip(), position)
        if found < 0:
            return False
        position = found + len(piece.strip())
    return True


def part_to_json(part: RestyledPart) -> list[Any]:
    """Serialize a part for the journal."""
    return [part.author, part.text, part.ids]


def part_from_json(saved: list[Any]) -> RestyledPart:
    """Inverse of :func:`part_to_json`."""
    author, text, ids = saved
    return RestyledPart(author, text, tuple(ids))
