"""A predictor by a schedule: style is a fixed function of the kept text.

A token *opens* a style span by a hash of it and the token before (one in ``CAPABILITY_TOKENS``);
the next ``_RUN`` tokens are style. Openings inside a span extend it, so that capability spans have
a mean of 19 tokens and style spans of

    ((1 - 1/19)^-5 - 1) * 19 = 5.9 tokens.

Of words with several tokens the first counts, and a word is of one class. All clients use this
function, so they hand over at the same places of the same text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.classifier.reader import Scores
from tessy.tokenization.token_ids import Codec

CAPABILITY_TOKENS = 19  # mean capability span
STYLE_SHARE = 1 - (1 - 1 / CAPABILITY_TOKENS) ** 5  # of all tokens
CONTEXT_TOKENS = 7  # tokens before a place that determine its class
_RUN = 5
_CONTEXT_CHARS = 160


def style_after(ids: Sequence[int], end: int) -> bool:
    """Return whether the token after ``ids[:end]`` is style."""
    return any(_opens(ids[i - 1], ids[i]) for i in range(max(1, end - _RUN), end))


def _opens(before: int, token: int) -> bool:
    # Hashes of small integers are the same in every process.
    return hash((before, token)) % CAPABILITY_TOKENS == 0


def begins_word(codec: Codec, token_id: int) -> bool:
    """Return whether a token starts with white space."""
    return codec.token_bytes(token_id)[:1].isspace()


@dataclass(slots=True)
class _Window:
    """The tokens of a window that were read.

    Attributes:
        words: First token of each word.
        opened: Index of the last opening up to each word; negative if there is none.
        counts: Number of words up to each token.
    """

    words: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, word: int) -> None:
        """Append a word that begins with the token ``word``."""
        here = len(self.words)
        opens = here and _opens(self.words[-1], word)
        self.opened.append(here if opens else self.opened[-1] if here else -_RUN)
        self.words.append(word)

    def style_after(self, end: int) -> bool:
        """Return :func:`style_after` without a search, because it is called for every token."""
        return end > 0 and self.opened[end - 1] >= end - _RUN


class ScheduleModel:
    """The schedule in place of the classifier, behind the real queue; see ``WindowModel``.

    Attributes:
        step_tokens: Large enough for any window in one pass.
    """

    step_tokens = 1 << 16

    def __init__(self, codec: Codec, delay_seconds: float) -> None:
        """Sleep for ``delay_seconds`` in each pass."""
        self._begins = cache(partial(begins_word, codec))
        self._delay = delay_seconds
        self._thread: int | None = None

    def new(self) -> _Window:
        """Return an empty window."""
        return _Window()

    def reserve(self, state: _Window, count: int) -> bool:
        """Return True: memory is not limited."""
        return True

    def rollback(self, state: _Window, length: int) -> int:
        """Keep the first ``length`` tokens."""
        del state.counts[length:]
        words = state.counts[-1] if state.counts else 0
        del state.words[words:], state.opened[words:]
        return len(state.counts)

    def forward(self, members: Sequence[tuple[_Window, Sequence[int]]]) -> list[Scores]:
        """Return P(style) of what follows each new token."""
        self._thread = threading.get_ident()
        if self._delay:
            time.sleep(self._delay)
        return [self._read(state, new) for state, new in members]

    @property
    def thread_seconds(self) -> float:
        """Return the CPU seconds of the predictor's living thread."""
        if self._thread is None:
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread))

    def _read(self, state: _Window, new: Sequence[int]) -> Scores:
        begins = [self._begins(token) for token in new]
        scores = []
        for token, begins_here, next_begins in zip(new, begins, [*begins[1:], True], strict=True):
            if begins_here or not state.words:
                state.add(token)
            state.counts.append(len(state.words))
            # The rest of a word has the class of the word.
            scores.append(float(state.style_after(len(state.words) - (not next_begins))))
        return scores


class Oracle:
    """The schedule as a predictor without queue or delay; see :class:`BoundaryPredictor`."""

    name = "oracle"
    sees_next = True
    lookahead = 0

    def __init__(self, codec: Codec) -> None:
        """Tokenize with ``codec``."""
        self._codec = codec

    def class_at(self, text: str, edge: int) -> float | None:
        """Return P(style) of what follows ``text[:edge]``; None at the very beginning."""
        if edge == 0:
            return None
        start = max(0, edge - _CONTEXT_CHARS)
        if start:
            start = text.find(" ", start, edge)
        ids = self._codec.encode(text[start:edge])
        read = [*ids[:1], *(i for i in ids[1:] if begins_word(self._codec, i))]
        return float(style_after(read, len(read)))

    async def predict(self, request: PredictionRequest) -> Prediction:
        """Score the units by their first tokens, and the text after them."""
        scores = []
        for start, _ in pairwise(request.edges):
            p = self.class_at(request.text, max(start, request.own_from))
            p = 1.0 if p is None else p
            scores.append(UnitScore(p, p, p))
        return Prediction(tuple(scores), self.class_at(request.text, len(request.text)))

    def release(self, key: str) -> None:
        """No-op: nothing is cached."""

    async def aclose(self) -> None:
        """No-op: no thread runs."""
