"""Generation by one model alone, as a state machine: an answer, or a thinking by one author.

Requests have a bounded length, so that an interrupted sample loses at most one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Literal

from tessy.core.edges import EdgeCursor, settled_edges
from tessy.core.errors import FailureReason, SampleFailed
from tessy.core.records import Author, Span
from tessy.core.repetition import RepetitionMonitor
from tessy.inference.base import Chunk
from tessy.synthesis.actions import Generate
from tessy.synthesis.resume import GenerationState
from tessy.synthesis.shared_thinking import ThinkingResult
from tessy.tokenization.token_ids import Codec, Draft, TokenIds, decode

Text = Literal["thinking", "answer"]
# Failure by a control token that does not end the text.
_MARKUP: Mapping[Text, FailureReason] = {
    "thinking": "eos_in_thinking",
    "answer": "control_in_answer",
}


class Measure:
    """Length of a growing text in another model's tokens; each part is encoded about once.

    Inside a long stretch without an edge the count may be a few tokens too high.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._tokens = 0
        self._base = EdgeCursor(0)

    def tokens(self, text: str) -> int:
        """Return the tokens of ``text``, which continues the text of the last call."""
        start = self._base.offset
        settled, self._base = settled_edges(text[start:], self._base)
        if settled:
            self._tokens += len(self._codec.encode(text[start : settled[-1]]))
        return self._tokens + len(self._codec.encode(text[self._base.offset :]))


@dataclass(eq=False)
class SingleModelGeneration:
    """A text by one model, up to one of its stop ids; ``done`` once it is complete.

    Attributes:
        prompt: Everything the model reads before the text.
        max_tokens: Maximum length, in tokens of ``measured_by``; reaching it is a failure.
        request_tokens: Maximum tokens of one request.
        seed: Returns the seed of a request from the number of tokens generated so far.
        room_tokens: Maximum length that fits the context, in own tokens; None: ``max_tokens``.
        measured_by: Another tokenizer that counts the text; None: its own.
        aside: The text is not part of the row.
    """

    author: Author
    codec: Codec
    prompt: InitVar[Iterable[int]]
    _: KW_ONLY
    what: Text
    stop_ids: frozenset[int]
    max_tokens: int
    request_tokens: int
    seed: Callable[[int], int]
    room_tokens: int | None = None
    measured_by: InitVar[Codec | None] = None
    aside: bool = False
    done: bool = field(default=False, init=False)

    def __post_init__(self, prompt: Iterable[int], measured_by: Codec | None) -> None:
        self._prompt = TokenIds(prompt)
        self._measure = Measure(measured_by) if measured_by is not None else None
        self._draft = Draft(self.codec)
        self._repetition = RepetitionMonitor(self.what)
        self._request_start = 0
        self._marks = self.codec.control_ids | self.stop_ids

    @property
    def ids(self) -> list[int]:
        """Ids so far, as sampled, without the stop id."""
        return self._draft.ids

    def state(self) -> GenerationState:
        """Return the state; taken before a request starts."""
        return GenerationState(tuple(self.ids), self.done, self._repetition.checked)

    def restore(self, state: GenerationState) -> None:
        """Restore a saved state; only on a new instance."""
        self._draft.extend(state.ids)
        self.done = state.done
        self._repetition.checked = state.checked
        if self.done:
            self._draft.flush()

    def next(self) -> Generate | None:
        """Return the next request; None once the text is complete.

        Raises:
            SampleFailed: ``budget`` or ``repetition``.
        """
        if self.done:
            # Limits of requests are in its own tokens, so only another measure can be exceeded.
            if self._measure is not None and self._length() > self.max_tokens:
                raise self._too_long()
            return None
        self._repetition.check(self._draft.text)
        if self._length() >= self.max_tokens:
            raise self._too_long()
        generated = len(self._draft.ids)
        left = (self.max_tokens if self.room_tokens is None else self.room_tokens) - generated
        if self._measure is None:
            left = min(left, self.max_tokens - generated)
        if left <= 0:
            raise SampleFailed("budget", f"no room for the {self.what}: the context is full")
        self._request_start = generated
        return Generate(
            author=self.author,
            prompt=self._prompt.plus(self._draft.ids),
            max_tokens=min(self.request_tokens, left),
            stop_ids=tuple(sorted(self.stop_ids)),
            seed=self.seed(generated),
        )

    def _length(self) -> int:
        if self._measure is None:
            return len(self._draft.ids)
        return self._measure.tokens(self._draft.text)

    def _too_long(self) -> SampleFailed:
        return SampleFailed("budget", f"the {self.what} reached {self.max_tokens} tokens")

    def receive(self, chunk: Chunk) -> None:
        """Append the tokens of ``chunk``.

        Raises:
            SampleFailed: Markup does not end the text, or the context had no space for a single
                token.
        """
        if self.done:
            return
        for index, token_id in enumerate(chunk.ids):
            if token_id in self._marks:
                self._draft.extend(chunk.ids[:index])
                self._end(token_id)
                return
        self._draft.extend(chunk.ids)
        if chunk.finish == "stop":
            self._end(chunk.stop_id)
        elif chunk.finish == "length" and len(self._draft.ids) == self._request_start:
            raise SampleFailed("budget", f"no room for the {self.what}: the context is full")

    def _end(self, stop_id: int | None) -> None:
        # A server that stops without reporting the id has reached the model's own end of turn.
        if stop_id is None and self.what == "thinking":
            raise SampleFailed(
                "eos_in_thinking", f"the {self.author} ended its turn in the middle of its thinking"
            )
        if stop_id is not None and stop_id not in self.stop_ids:
            markup = decode(self.codec, [stop_id])
            raise SampleFailed(_MARKUP[self.what], f"{markup!r} in the {self.what}")
        self._draft.flush()
        self.done = True

    def text(self) -> tuple[str, list[int]]:
        """Return the text without white space at its ends, and its ids (exact to the character)."""
        text = self._draft.text
        start = len(text) - len(text.lstrip())
        end = len(text.rstrip())
        if start >= end:
            return "", []
        draft = self._draft.stripped()
        if start and draft is self._draft:  # it ends in half a character: no id can be kept as is
            return text[start:end], self.codec.encode(text[start:end])
        return text[start:end], draft.cut(end - start)

    def text_in(self, codec: Codec) -> tuple[str, list[int]]:
        """Return :meth:`text` with ids of ``codec``: as sampled if it is its own, else encoded."""
        text, ids = self.text()
        return text, ids if codec is self.codec else codec.encode(text)

    def thinking_result(self, codec: Codec | None = None) -> ThinkingResult:
        """Return the text as a thinking of one span, in tokens of ``codec``; None: its own."""
        text, ids = self.text_in(codec or self.codec)
        spans = (Span(start=0, end=len(text), author=self.author),) if text else ()
        return ThinkingResult(text, spans, ids, {self.author: len(ids)})
