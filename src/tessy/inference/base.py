"""The one seam between tessy and a model: token ids in, token ids out, as a stream.

A span is one request. Closing the stream aborts the request on the server, which keeps what it
has cached of the prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from tessy.tokenization.token_ids import TokenIds


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model draws its tokens; always sent in full, so no server default applies."""

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 20  # 0 = no limit
    min_p: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One continuation.

    Attributes:
        key: Who asks (``"<id>/<sample>"``): keeps a sample on its replica and finds its KV cache.
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


class Chunk(NamedTuple):  # made for every token: a frozen dataclass takes three times as long
    """What has arrived since the last chunk.

    Attributes:
        ids: New token ids, without the stop id. May be empty in the last chunk only.
        finish: None while more may come. ``"stop"``: a stop id or the model's EOS was drawn.
            ``"length"``: ``max_tokens`` were generated, or the context is full.
        stop_id: The id that stopped it, when ``finish`` is ``"stop"`` and the engine knows it.
    """

    ids: tuple[int, ...]
    finish: Literal["stop", "length"] | None = None
    stop_id: int | None = None


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks of one request, at least one, as if they had arrived together."""
    last = chunks[-1]
    if len(chunks) == 1:
        return last
    ids = tuple(token_id for chunk in chunks for token_id in chunk.ids)
    return Chunk(ids, last.finish, last.stop_id)


class ChunkSink:
    """Where the chunks of one request go.

    Attributes:
        put: Called with each chunk as it arrives, until it is closed; must not block, and raise
            nothing.
        closed: No more is wanted.
        on_close: Called once when it is closed; set by whoever fills it.
    """

    __slots__ = ("closed", "on_close", "put")

    def __init__(self, put: Callable[[Chunk], None]) -> None:
        """Give chunks to ``put``."""
        self.put = put
        self.closed = False
        self.on_close: Callable[[], None] | None = None

    def close(self) -> None:
        """Want no more: the request is aborted."""
        if not self.closed:
            self.closed = True
            # Whoever takes the chunks has this tap: neither would be freed at once.
            self.put = _nowhere
            told, self.on_close = self.on_close, None
            if told is not None:
                told()


def _nowhere(chunk: Chunk) -> None:
    """Nobody wants it."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a probe found out.

    Attributes:
        model: Name the server serves it under.
        mode: How ids travel: ``generate`` (vLLM), ``sglang``, ``completions``, ``text``, ``local``
            or ``scripted``.
        context_tokens: Prompt plus output limit in tokens; None if the server does not say.
        capacity_tokens: Tokens of KV cache over all requests; None if the server does not say.
        prefix_caching: Whether prompts are cached between requests; None if unknown.
        streaming: Whether ids come as they are drawn; if not, a stream is one chunk and spans
            are drafted in fixed lengths.
        notes: Plain sentences on what is lost or should be mended, for doctor and the log.
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
        """Find out what the server can do now.

        Raises:
            EngineUnavailable: It cannot be reached now.
            EngineMisconfigured: It can be reached, but not be used like this.
        """
        ...

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Continue ``request.prompt``; the last chunk has ``finish`` set.

        Closing the generator (``contextlib.aclosing``) aborts the request.

        Raises:
            EngineUnavailable: No answer, or the stream broke or stalled; worth another try.
            EngineRefused: The server will not serve this request.
            EngineMisconfigured: The server will not serve any request like it.
        """
        ...

    def release(self, key: str) -> None:
        """The sample ``key`` is finished: forget its cache and its replica."""
        ...

    async def aclose(self) -> None:
        """Close connections and threads; streams must have ended before."""
        ...


class SupportsStreamInto(Protocol):
    """An engine that hands chunks on as they arrive, without waking up a task for each."""

    async def stream_into(self, request: Request, tap: ChunkSink) -> None:
        """Continue ``request.prompt`` into ``tap``; the last chunk has ``finish`` set.

        Returns after the last chunk, or soon after the tap was closed.

        Raises:
            EngineError: As :meth:`Engine.stream`.
        """
        ...


async def stream_into(engine: Engine, request: Request, tap: ChunkSink) -> None:
    """:meth:`SupportsStreamInto.stream_into` of any engine."""
    own: Callable[[Request, ChunkSink], Awaitable[None]] | None = getattr(
        engine, "stream_into", None
    )
    if own is not None:
        await own(request, tap)
        return
    async with aclosing(engine.stream(request)) as chunks:
        while not tap.closed:
            chunk = None
            with left_when_closed(tap):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            tap.put(chunk)


@contextmanager
def left_when_closed(tap: ChunkSink) -> Iterator[None]:
    """Leave the block, where it waits, as soon as ``tap`` is closed; nothing in it may close it."""
    task = asyncio.current_task()
    assert task is not None
    cancelled = task.cancelling()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    tap.on_close = interrupt
    try:
        yield
    except asyncio.CancelledError:
        if not interrupted or task.cancelling() > cancelled + 1:  # somebody else did it, too
            raise
    finally:
        tap.on_close = None
        if interrupted:
            task.uncancel()


async def streamed(engine: SupportsStreamInto, request: Request) -> AsyncGenerator[Chunk, None]:
    """:meth:`Engine.stream` of an engine that feeds; each chunk is all that had arrived."""
    arrived: list[Chunk] = []
    news = asyncio.Event()

    def put(chunk: Chunk) -> None:
        arrived.append(chunk)
        news.set()

    tap = ChunkSink(put)
    task = asyncio.create_task(engine.stream_into(request, tap))
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done() or arrived:
            await news.wait()
            news.clear()
            if arrived:
                chunk = join(arrived)
                arrived.clear()
                if chunk.finish is not None:
                    await task
                yield chunk
        await task
    finally:
        tap.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
