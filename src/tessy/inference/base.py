"""The interface to a model: token ids in, token ids out, as a stream.

A span is one request. Closing its sink aborts the request; the server keeps the prompt cached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from tessy.tokenization.token_ids import TokenIds

Mode = Literal["generate", "sglang", "completions", "text", "local"]
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
    """One continuation."""

    key: str  # the sample, `<id>/<sample>`: selects its replica and KV cache
    prompt: TokenIds  # everything the model has read so far
    sampling: Sampling
    max_tokens: int
    stop_ids: tuple[int, ...]  # generation ends when one of them is drawn
    seed: int  # fixes the draw on servers that honour seeds


# A NamedTuple: one is created per token, and a frozen dataclass is slower to construct.
class Chunk(NamedTuple):
    """Tokens that arrived since the last chunk.

    ``finish`` is None while more may come, ``"stop"`` after a stop id or the model's EOS,
    ``"length"`` after ``max_tokens`` or at the end of the context.
    """

    ids: tuple[int, ...]  # without the stop id; empty in the last chunk only
    finish: Literal["stop", "length"] | None = None
    stop_id: int | None = None  # what stopped it, if the engine reports it


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Join chunks of one request, at least one, into one."""
    last = chunks[-1]
    if len(chunks) == 1:
        return last
    ids = tuple(token_id for chunk in chunks for token_id in chunk.ids)
    return Chunk(ids, last.finish, last.stop_id)


class ScoredToken(NamedTuple):
    """A token of a given text, as the model predicts it from the text before."""

    logprob: float  # natural logarithm
    rank: int  # 1 for the likeliest token
    top: tuple[float, ...]  # log-probabilities of the likeliest tokens, descending


class ChunkSink:
    """Receives the chunks of one request.

    ``put`` is called with each chunk until the sink is closed; it must neither block nor raise. The
    engine sets ``on_close``, which :meth:`close` calls once, and which may set ``unseen``: an
    estimate of the tokens that were generated and not put.
    """

    __slots__ = ("closed", "on_close", "put", "unseen")

    def __init__(self, put: Callable[[Chunk], None]) -> None:
        self.put = put
        self.closed = False
        self.unseen = 0
        self.on_close: Callable[[], None] | None = None

    def close(self) -> None:
        """Stop receiving; aborts the request."""
        if not self.closed:
            self.closed = True
            self.put = _nowhere  # break the reference cycle
            callback, self.on_close = self.on_close, None
            if callback is not None:
                callback()

    def close_also(self, inner: ChunkSink) -> None:
        """Close ``inner``, which this sink's chunks come through, when this sink is closed."""

        def close() -> None:
            inner.close()
            self.unseen += inner.unseen

        self.on_close = close


def _nowhere(chunk: Chunk) -> None:
    """No-op callback."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Result of a probe."""

    model: str  # name on the server
    mode: Mode  # how token ids travel
    context_tokens: int | None = None  # limit of prompt plus output; None: unknown
    capacity_tokens: int | None = None  # size of the KV cache; None: unknown
    prefix_caching: bool | None = None  # None: unknown
    streaming: bool = True  # False: a stream is one chunk, and spans have a fixed length
    notes: tuple[str, ...] = ()  # limitations and what to fix


class ServerCounters(NamedTuple):
    """What a server has counted since it started, for all of its clients."""

    requests: int
    tokens: int  # generated


class ServerLike(Protocol):
    """What engines and chat clients have in common.

    Requests raise EngineUnavailable if another try may succeed, EngineRefused if the server will
    not serve this request, and EngineMisconfigured if it will not serve any request like it.
    """

    async def probe(self) -> EngineInfo:
        """Determine what the server supports."""

    def release(self, key: str) -> None:
        """Release cache and replica of the sample ``key``."""

    async def aclose(self) -> None:
        """Close connections and threads; streams must have ended before."""


class Engine(ServerLike, Protocol):
    """A model that continues token ids."""

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Continue ``request.prompt`` into ``sink``; the last chunk has ``finish`` set.

        Chunks are delivered by callback, because waking a task for every token costs more than
        handling it. Returns after the last chunk, or soon after the sink was closed.
        """

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = TOP_LOGPROBS
    ) -> list[ScoredToken]:
        """Score ``ids[start:]`` (L - start), each as predicted from the ids before it.

        What is before ``start`` may be read from the cache of the sample ``key``. ``top`` is the
        number of the likeliest tokens whose log-probabilities are returned.

        Raises EngineRefused if the server does not return log-probabilities of this prompt.
        """


@contextmanager
def leave_when_closed(sink: ChunkSink) -> Iterator[None]:
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
