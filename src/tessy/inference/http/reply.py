"""Replies as they arrive: bytes from aiohttp, parsed into chunks by the reader of a wire format."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import aiohttp

from tessy.core.errors import EngineError, EngineUnavailable
from tessy.inference.base import ChunkSink, leave_when_closed
from tessy.inference.http.unseen import UnseenTokens
from tessy.inference.http.wires.base import BadReply, EventReader

FAULTS = (aiohttp.ClientError, TimeoutError, OSError)  # of a connection

_DRAIN_SECONDS = 0.25  # for the rest of a stream after its last tokens


class EventSplitter:
    """Splits a stream of server-sent events into the payloads of complete events.

    Comments and fields other than ``data`` are skipped; several ``data`` lines of one event are
    joined by newlines (WHATWG HTML, 9.2.6).
    """

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[bytes]:
        """Return the payloads of the events that ``received`` completes, in order."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif self._data and line in (b"", b"\r"):
                events.append(b"\n".join(self._data))
                self._data.clear()
        return events

    def finish(self) -> list[bytes]:
        """End the stream; returns the last event if its blank line is missing."""
        return self.feed(b"\n\n")


async def stream_reply(
    response: aiohttp.ClientResponse,
    reader: EventReader,
    sink: ChunkSink,
    silence: float,
    unseen: UnseenTokens,
) -> None:
    """Stream a reply into ``sink`` until its last token or until the sink is closed.

    At a close ``sink.unseen`` is set: tokens that have arrived, and the estimate of unsent ones.

    Raises TimeoutError after ``silence`` seconds without data, and EngineUnavailable if the reply
    ends without a finish reason.
    """
    content, splitter, finish = response.content, EventSplitter(), None
    watch, clock = _SilenceTimer(response, silence), asyncio.get_running_loop().time

    def close() -> None:
        arrived, ended = _arrived(content, reader, splitter)
        unseen.receive(arrived)
        sink.unseen = arrived if ended else arrived + unseen.take()
        watch.abort()

    sink.on_close = close
    try:
        while finish is None and not sink.closed:
            received = await content.readany()
            if sink.closed:
                break
            watch.heard = clock()
            chunk = reader.read(splitter.feed(received) if received else splitter.finish())
            finish = chunk.finish
            if chunk.ids or finish is not None:
                unseen.receive(len(chunk.ids) + (finish == "stop"))
                sink.put(chunk)
            elif not received:
                raise EngineUnavailable("the reply ended without a finish reason")
    except aiohttp.ClientError:
        if not sink.closed:
            raise
    finally:
        sink.on_close = None
        watch.end()
    if not sink.closed and not content.is_eof():  # drain, so that the connection can be reused
        with contextlib.suppress(*FAULTS):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await content.readany():
                    pass


def _arrived(
    content: aiohttp.StreamReader, reader: EventReader, splitter: EventSplitter
) -> tuple[int, bool]:
    """Return the tokens that have arrived and were not read, and whether the stream has ended."""
    received = b""
    with contextlib.suppress(RuntimeError, *FAULTS):  # a reader waits: there is nothing
        received = content.read_nowait()
    try:
        chunk = reader.read(splitter.feed(received))
    except (BadReply, EngineError):
        return 0, True
    return len(chunk.ids) + (chunk.finish == "stop"), chunk.finish is not None


async def read_whole_reply(
    response: aiohttp.ClientResponse, reader: EventReader, sink: ChunkSink, unseen: UnseenTokens
) -> None:
    """Read a reply that is not a stream into ``sink``; raises as :func:`stream_reply`."""
    body: bytes | None = None
    with leave_when_closed(sink):
        body = await response.read()
    if body is None:
        return
    chunk = reader.read([body])
    if chunk.finish is None:
        raise EngineUnavailable("the reply ended without a finish reason")
    unseen.receive(len(chunk.ids) + (chunk.finish == "stop"))
    sink.put(chunk)


@contextlib.asynccontextmanager
async def deadline(seconds: float) -> AsyncGenerator[None, None]:
    """Limit the time of a block, as :func:`asyncio.timeout` does.

    Data that arrived while this process was stopped (Ctrl-Z, a debugger) is received first.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        # `asyncio.timeout(seconds)` would cancel before a task that has received data can run;
        # a limit that is moved to the present cancels after it.
        timer = loop.call_later(seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()


class _SilenceTimer:
    """Ends a stream that is silent for too long.

    aiohttp's own limit would set a timer again for every packet, a tenth of what a packet costs.
    """

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._content, self._connection = response.content, response.connection
        if self._connection is not None and self._connection.protocol is not None:
            self._connection.protocol.read_timeout = None
            self._connection.protocol.start_timeout()  # stops the timer that runs already
        self._silence = silence
        self.heard = self._loop.time()  # time of the last data
        self._timer = self._loop.call_later(silence, self._look)

    def abort(self) -> None:
        """Close the connection at once; pending reads fail."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        rest = self.heard + self._silence - self._loop.time()
        if rest > 0:
            self._timer = self._loop.call_later(rest, self._look)
        else:  # data that arrived while this process was stopped is read first
            self._timer = self._loop.call_later(0, self._fail_unless_heard, self.heard)

    def _fail_unless_heard(self, heard: float) -> None:
        if self.heard != heard:
            self._look()
        else:
            self._content.set_exception(TimeoutError(f"nothing came for {self._silence:g} s"))
