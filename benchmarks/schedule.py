"""Which tokens are style: a fixed function of the kept text, in place of a trained classifier.

A token *opens* a style span where a hash of it and the token before says so (one in
``CAPABILITY_TOKENS``); what follows an opening is style for ``_RUN`` tokens. Openings inside a span
prolong it, so that capability spans have a mean of 19 tokens and style spans one of

    ((1 - 1/19)^-5 - 1) * 19 = 5.9 tokens.

Every client asks the same function, so all make the same hand-overs in the same text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import pairwise

from tessy.boundary.base import Judgement, UnitScore, View
from tessy.tokens import Codec

CAPABILITY_TOKENS = 19  # mean capability span
STYLE_SHARE = 1 - (1 - 1 / CAPABILITY_TOKENS) ** 5  # of all tokens
CONTEXT_TOKENS = 7  # tokens before a place that decide about its class
_RUN = 5
_CONTEXT_CHARS = 160


def style_after(ids: Sequence[int], end: int) -> bool:
    """Whether the token after ``ids[:end]`` is style."""
    first = max(1, end - _RUN)
    # Hashes of small integers are the same in every process.
    return any(hash((ids[i - 1], ids[i])) % CAPABILITY_TOKENS == 0 for i in range(first, end))


class ScheduleScorer:
    """The schedule where the classifier would be: behind the real queue, with a delay per batch.

    Attributes:
        tokens: Tokens read so far.
        batches: Batches so far.
        thread_seconds: CPU seconds of the predictor's thread so far.
    """

    def __init__(self, delay_seconds: float) -> None:
        """Take ``delay_seconds`` for each batch, as a device would."""
        self._delay = delay_seconds
        self.tokens = self.batches = 0
        self.thread_seconds = 0.0
        self._lock = threading.Lock()

    def score(self, windows: Sequence[Sequence[int]]) -> list[Sequence[float]]:
        """P(style) of what follows each token of each window."""
        if self._delay:
            time.sleep(self._delay)
        found: list[Sequence[float]] = [_Lazy(list(window)) for window in windows]
        with self._lock:
            self.tokens += sum(map(len, windows))
            self.batches += 1
            self.thread_seconds = time.thread_time()
        return found


class _Lazy(Sequence[float]):
    """Scores that are worked out when they are looked at: few of a window's are."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int | slice) -> float:  # type: ignore[override]
        assert isinstance(index, int)
        place = index if index >= 0 else len(self._ids) + index
        return float(style_after(self._ids, place + 1))


class Oracle:
    """The schedule as a predictor without queue or delay; see :class:`BoundaryPredictor`."""

    name = "oracle"
    sees_next = True
    lookahead = 0

    def __init__(self, codec: Codec) -> None:
        """Read text with ``codec``."""
        self._codec = codec

    def class_at(self, text: str, edge: int) -> float | None:
        """P(style) of what follows ``text[:edge]``; None at the very beginning."""
        if edge == 0:
            return None
        start = max(0, edge - _CONTEXT_CHARS)
        if start:
            start = text.find(" ", start, edge)
        ids = self._codec.encode(text[start:edge])
        return float(style_after(ids, len(ids)))

    async def judge(self, view: View) -> Judgement:
        """Classes of the units by their first tokens, and of what follows."""
        scores = []
        for start, _ in pairwise(view.edges):
            p = self.class_at(view.text, max(start, view.own_from))
            p = 1.0 if p is None else p
            scores.append(UnitScore(p, p, p))
        return Judgement(tuple(scores), self.class_at(view.text, len(view.text)))

    def release(self, key: str) -> None:
        """Nothing is kept."""

    async def aclose(self) -> None:
        """Nothing runs."""
