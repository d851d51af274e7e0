"""Replies as they arrive: bytes from aiohttp, parsed into chunks by the reader of a wire format."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios
from collections.abc import AsyncGenerator

import aiohttp

from tessy.core.errors import EngineError, EngineUnavailable
from tessy.inference.base import ChunkSink, left_when_closed
from tessy.inference.http.wires.base import BadReply, EventReader

FAULTS = (aiohttp.ClientError, TimeoutError, OSError)  # of a connection

# Tokens that a server generates between the close of a stream and its abort: the step it is in
# (measured: docs/performance.md).
TOKENS_UNTIL_ABORT = 1

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
    response: aiohttp.ClientResponse, reader: EventReader, sink: ChunkSink, silence: float
) -> None:
    """Stream a reply into ``sink`` until its last token or until the sink is closed.

    Raises TimeoutError after ``silence`` seconds without data, and EngineUnavailable if the reply
    ends without a finish reason.
    """
    content, splitter, finish = response.content, EventSplitter(), None
    watch, clock = _SilenceTimer(response, silence), asyncio.get_running_loop().time
    tokens = 0

    def close() -> None:
        sink.unseen = _unseen_tokens(response, reader, splitter, tokens)
        watch.abort()

    sink.on_close = close
    try:
        while finish is None and not sink.closed:
            received = await content.readany()
            if sink.closed:
                return
            watch.heard = clock()
            chunk = reader.read(splitter.feed(received) if received else splitter.finish())
            finish = chunk.finish
            tokens += len(chunk.ids)
            if chunk.ids or finish is not None:
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


def _unseen_tokens(
    response: aiohttp.ClientResponse, reader: EventReader, splitter: EventSplitter, tokens: int
) -> int:
    """Estimate the tokens of an open stream beyond the first ``tokens``, which were read.

    What the event loop has received is counted. What the kernel has received is estimated by its
    size. To what the server generates until it has noticed the close, the estimate is
    :data:`TOKENS_UNTIL_ABORT`.
    """
    content, received = response.content, b""
    with contextlib.suppress(RuntimeError, *FAULTS):  # a reader waits: there is nothing
        received = content.read_nowait()
    try:
        chunk = reader.read(splitter.feed(received))
    except (BadReply, EngineError):
        return 0
    unread = len(chunk.ids)
    if chunk.finish is not None:
        return unread + (chunk.finish == "stop")
    tokens += unread
    arriving = _bytes_in_kernel(response) * tokens / content.total_bytes if tokens else 0
    return unread + round(arriving) + TOKENS_UNTIL_ABORT


def _bytes_in_kernel(response: aiohttp.ClientResponse) -> int:
    """Return the bytes that have arrived on the connection and were not received."""
    connection = response.connection
    if connection is None or connection.transport is None:
        return 0
    socket = connection.transport.get_extra_info("socket")
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.FIONREAD, bytes(4)))
    except (AttributeError, OSError):  # it is closed, or no socket
        return 0
    return int(count)


async def read_whole_reply(
    response: aiohttp.ClientResponse, reader: EventReader, sink: ChunkSink
) -> None:
    """Read a reply that is not a stream into ``sink``; raises as :func:`stream_reply`."""
    body: bytes | None = None
    with left_when_closed(sink):
        body = await response.read()
    if body is None:
        return
    chunk = reader.read([body])
    if chunk.finish is None:
        raise EngineUnavailable("the reply ended without a finish reason")
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
