"""The interface to a model: token ids in, token ids out, as a stream.

A span is one request. Closing its sink aborts the request on the server, which keeps what it has
cached of the prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from tessy.tokenization.token_ids import TokenIds

TOP_LOGPROBS = 20  # vLLM's default limit of log-probabilities per token


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; always sent in full, so that no server default applies."""

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 20  # 0 = no limit
    min_p: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One continuation.

    Attributes:
        key: The sample, ``"<id>/<sample>"``: selects its replica and its KV cache.
        prompt: Everything the model has read so far.
        sampling: How to draw.
        max_tokens: At most this many tokens are generated.
        stop_ids: Generation ends when one of these ids is drawn.
        seed: Fixes the draw on servers that honour seeds.
    """

    key: str
    prompt: TokenIds
    sampling: Sampling
    max_tokens: int
    stop_ids: tuple[int, ...]
    seed: int


# A NamedTuple: one is created per token, and a frozen dataclass is slower to construct.
class Chunk(NamedTuple):
    """Tokens that arrived since the last chunk.

    Attributes:
        ids: New token ids, without the stop id. May be empty in the last chunk only.
        finish: None while more may come. ``"stop"``: a stop id or the model's EOS was drawn.
            ``"length"``: ``max_tokens`` were generated, or the context is full.
        stop_id: The id that stopped it, when ``finish`` is ``"stop"`` and the engine reports it.
    """

    ids: tuple[int, ...]
    finish: Literal["stop", "length"] | None = None
    stop_id: int | None = None


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Join chunks of one request, at least one, into one."""
    last = chunks[-1]
    if len(chunks) == 1:
        return last
    ids = tuple(token_id for chunk in chunks for token_id in chunk.ids)
    return Chunk(ids, last.finish, last.stop_id)


class ScoredToken(NamedTuple):
    """A token of a given text, as the model predicts it from the text before.

    Attributes:
        logprob: Its natural log-probability.
        rank: 1 if it is the likeliest token, 2 for the second one, …
        top: Log-probabilities of the likeliest tokens, descending: :data:`TOP_LOGPROBS`, or fewer
            in a smaller vocabulary.
    """

    logprob: float
    rank: int
    top: tuple[float, ...]


class ChunkSink:
    """Receives the chunks of one request.

    Attributes:
        put: Called with each chunk as it arrives, until it is closed; must not block, and raise
            nothing.
        closed: Set by :meth:`close`.
        on_close: Called once when it is closed; set by the engine.
    """

    __slots__ = ("closed", "on_close", "put")

    def __init__(self, put: Callable[[Chunk], None]) -> None:
        """Deliver chunks to ``put``."""
        self.put = put
        self.closed = False
        self.on_close: Callable[[], None] | None = None

    def close(self) -> None:
        """Stop receiving; aborts the request."""
        if not self.closed:
            self.closed = True
            self.put = _nowhere  # break the reference cycle
            callback, self.on_close = self.on_close, None
            if callback is not None:
                callback()


def _nowhere(chunk: Chunk) -> None:
    """No-op callback."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Result of a probe.

    Attributes:
        model: Name the server serves it under.
        mode: How ids travel: ``generate`` (vLLM), ``sglang``, ``completions``, ``text``, ``local``
            or ``scripted``.
        context_tokens: Prompt plus output limit in tokens; None if the server does not say.
        capacity_tokens: Tokens of KV cache over all requests; None if the server does not say.
        prefix_caching: Whether prompts are cached between requests; None if unknown.
        streaming: Whether ids come as they are drawn; if not, a stream is one chunk and spans
            are drafted in fixed lengths.
        notes: Limitations and what to fix, for doctor and the log.
    """

    model: str
    mode: Literal["generate", "sglang", "completions", "text", "local", "scripted"]
    context_tokens: int | None = None
    capacity_tokens: int | None = None
    prefix_caching: bool | None = None
    streaming: bool = True
    notes: tuple[str, ...] = field(default=())


class Engine(Protocol):
    """A model that continues token ids."""

    async def probe(self) -> EngineInfo:
        """Determine what the server supports.

        Raises:
            EngineUnavailable: It cannot be reached now.
            EngineMisconfigured: It can be reached, but not be used like this.
        """
        ...

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Continue ``request.prompt`` into ``sink``; the last chunk has ``finish`` set.

        Chunks are delivered by callback, because waking a task for every token costs more than
        handling it. Returns after the last chunk, or soon after the sink was closed, which aborts
        the request on the server.

        Raises:
            EngineUnavailable: No answer, or the stream broke or stalled; worth another try.
            EngineRefused: The server will not serve this request.
            EngineMisconfigured: The server will not serve any request like it.
        """
        ...

    async def score(self, key: str, ids: Sequence[int]) -> list[ScoredToken]:
        """Score each of ``ids`` (L) but the first (L - 1), as predicted from the ids before it.

        Args:
            key: The text, ``"<id>/<sample>"``; as in :class:`Request`.
            ids: A text in the model's own tokens.

        Raises:
            EngineUnavailable: No answer; worth another try.
            EngineRefused: The server does not return log-probabilities of a prompt, or not of
                this one.
            EngineMisconfigured: The server will not serve any request like it.
        """
        ...

    def release(self, key: str) -> None:
        """Release cache and replica of the sample ``key``."""
        ...

    async def aclose(self) -> None:
        """Close connections and threads; streams must have ended before."""
        ...


@contextmanager
def left_when_closed(sink: ChunkSink) -> Iterator[None]:
    """Leave the block at its current await once ``sink`` is closed from outside the block."""
    task = asyncio.current_task()
    assert task is not None
    cancelled = task.cancelling()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    sink.on_close = interrupt
    try:
        yield
    except asyncio.CancelledError:
        if not interrupted or task.cancelling() > cancelled + 1:  # cancelled from outside, too
            raise
    finally:
        sink.on_close = None
        if interrupted:
            task.uncancel()
