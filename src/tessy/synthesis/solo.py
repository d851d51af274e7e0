"""One author writing alone, as a state machine: the final answer, or a thinking of its own.

Long texts are asked for in requests of bounded length, so that a sample that is stopped loses no
more than one of them; the server's prefix cache makes going on cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from tessy.engines.base import Chunk
from tessy.errors import FailureReason, SampleFailed
from tessy.records import Author, Span
from tessy.synthesis.moves import Ask
from tessy.synthesis.thinking import Thought
from tessy.text import find_loop
from tessy.tokens import Codec, Draft, TokenIds, decode

Text = Literal["thinking", "answer"]
_LOOP_CHECK_CHARS = 100
# Why a text with markup that does not end it is none.
_MARKUP: Mapping[Text, FailureReason] = {
    "thinking": "eos_in_thinking",
    "answer": "control_in_answer",
}


class Solo:
    """A text by one author, until one of its stop ids.

    Attributes:
        author: Who writes.
        what: What is being written.
        done: It is whole.
    """

    def __init__(
        self,
        author: Author,
        codec: Codec,
        prompt: Iterable[int],
        *,
        what: Text,
        stop_ids: frozenset[int],
        max_tokens: int,
        request_tokens: int,
        seed: Callable[[int], int],
    ) -> None:
        """Nothing written yet.

        Args:
            author: Who writes.
            codec: Its tokenizer.
            prompt: Everything it has read.
            what: What is being written.
            stop_ids: Ids that end the text in good order.
            max_tokens: Longest text, in its tokens; reaching it is a failure.
            request_tokens: Most tokens of one request.
            seed: Seed of a request from the number of tokens written so far.
        """
        self.author: Author = author
        self._codec = codec
        self._prompt = TokenIds(prompt)
        self.what: Text = what
        self._stop_ids = stop_ids
        self._max_tokens = max_tokens
        self._request_tokens = request_tokens
        self._seed = seed
        self._draft = Draft(codec)
        self._checked = 0
        self._asked_at = 0
        self.done = False

    @property
    def ids(self) -> list[int]:
        """Ids written so far, as sampled, without the stop id."""
        return self._draft.ids

    def state(self) -> dict[str, Any]:
        """Everything but the ids, as JSON values; to be taken before a request starts."""
        return {"done": self.done, "checked": self._checked}

    def restore(self, state: Mapping[str, Any], ids: Iterable[int]) -> None:
        """Go on from a saved state; only for a machine that has done nothing yet."""
        self._draft.extend(ids)
        self.done, self._checked = state["done"], state["checked"]
        if self.done:
            self._draft.flush()

    def next(self) -> Ask | None:
        """The next request; None once the text is whole.

        Raises:
            SampleFailed: ``budget`` or ``repetition``.
        """
        if self.done:
            return None
        written = len(self._draft.ids)
        if len(self._draft.text) - self._checked >= _LOOP_CHECK_CHARS:
            self._checked = len(self._draft.text)
            loop = find_loop(self._draft.text)
            if loop is not None:
                raise SampleFailed("repetition", f"the {self.what} repeats {loop[:100]!r}")
        if written >= self._max_tokens:
            raise SampleFailed("budget", f"the {self.what} reached {self._max_tokens} tokens")
        self._asked_at = written
        return Ask(
            author=self.author,
            prompt=self._prompt.plus(self._draft.ids),
            max_tokens=min(self._request_tokens, self._max_tokens - written),
            stop_ids=tuple(sorted(self._stop_ids)),
            seed=self._seed(written),
        )

    def receive(self, chunk: Chunk) -> None:
        """Take what the model has written.

        Raises:
            SampleFailed: ``control_in_answer`` or ``eos_in_thinking``: markup that does not end
                the text; ``budget``: the model had no room for a single token.
        """
        if self.done:
            return
        marks = self._codec.control_ids | self._stop_ids
        for index, token_id in enumerate(chunk.ids):
            if token_id in marks:
                self._draft.extend(chunk.ids[:index])
                self._end(token_id)
                return
        self._draft.extend(chunk.ids)
        if chunk.finish == "stop":
            self._end(chunk.stop_id)
        elif chunk.finish == "length" and len(self._draft.ids) == self._asked_at:
            raise SampleFailed("budget", f"no room for the {self.what}: the context is full")

    def _end(self, stop_id: int | None) -> None:
        # A server that stops without naming the id has met the model's own end of turn.
        if stop_id is None and self.what == "thinking":
            raise SampleFailed(
                "eos_in_thinking", f"the {self.author} ended its turn in mid-thought"
            )
        if stop_id is not None and stop_id not in self._stop_ids:
            markup = decode(self._codec, [stop_id])
            raise SampleFailed(_MARKUP[self.what], f"{markup!r} in the {self.what}")
        self._draft.flush()
        self.done = True

    def text(self) -> tuple[str, list[int]]:
        """The text without white space at its ends, and its ids (exact to the character)."""
        text = self._draft.text
        start = len(text) - len(text.lstrip())
        end = len(text.rstrip())
        if start >= end:
            return "", []
        draft = self._draft.stripped()
        if start and draft is self._draft:  # it ends in half a character: no id can be kept as is
            return text[start:end], self._codec.encode(text[start:end])
        return text[start:end], draft.cut(end - start)

    def thought(self) -> Thought:
        """The text as a thinking of one span."""
        text, ids = self.text()
        spans = (Span(start=0, end=len(text), author=self.author),) if text else ()
        return Thought(text, spans, ids, {self.author: len(ids)})
