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
from tessy.inference.base import ChunkSink, leave_when_closed
from tessy.inference.http.wires.base import BadReply, EventReader

FAULTS = (aiohttp.ClientError, TimeoutError, OSError)  # of a connection

MEASURED_CLOSES = 4  # one in so many is measured; its port stays in use for a minute
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
    late: LateTokens,
) -> None:
    """Stream a reply into ``sink`` until its last token or until the sink is closed.

    At a close ``sink.unseen`` is set from ``late``, the estimate for this server.

    Raises TimeoutError after ``silence`` seconds without data, and EngineUnavailable if the reply
    ends without a finish reason.
    """
    content, splitter, finish = response.content, EventSplitter(), None
    watch, clock = _SilenceTimer(response, silence), asyncio.get_running_loop().time
    tokens, events, arriving, received = 0, 0, None, b""

    def close() -> None:
        nonlocal arriving
        unread, arriving = _arrived(response, reader, splitter, tokens)
        late.seen(tokens, events)
        sink.unseen = unread if arriving is None else unread + arriving + late.take()
        if arriving is None or not late.due() or not watch.end_sending():
            arriving = None
            watch.abort()

    sink.on_close = close
    try:
        while finish is None and not sink.closed:
            received = await content.readany()
            if sink.closed:
                break
            watch.heard = clock()
            payloads = splitter.feed(received) if received else splitter.finish()
            chunk = reader.read(payloads)
            events += len(payloads)
            finish = chunk.finish
            tokens += len(chunk.ids)
            if chunk.ids or finish is not None:
                sink.put(chunk)
            elif not received:
                raise EngineUnavailable("the reply ended without a finish reason")
            received = b""
    except aiohttp.ClientError:
        if not sink.closed:
            raise
        received = b""
    finally:
        sink.on_close = None
        watch.end()
    if arriving is not None:
        more = await _rest(content, reader, splitter, received)
        late.add(None if more is None else max(0, more - arriving))
    if not sink.closed and not content.is_eof():  # drain, so that the connection can be reused
        with contextlib.suppress(*FAULTS):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await content.readany():
                    pass


def _arrived(
    response: aiohttp.ClientResponse, reader: EventReader, splitter: EventSplitter, tokens: int
) -> tuple[int, int | None]:
    """Return the tokens of an open stream that have arrived and are not among those read.

    The first number counts what the event loop has received. The second one estimates what the
    kernel has, by its size; it is None if the stream has ended.
    """
    content, received = response.content, b""
    with contextlib.suppress(RuntimeError, *FAULTS):  # a reader waits: there is nothing
        received = content.read_nowait()
    try:
        chunk = reader.read(splitter.feed(received))
    except (BadReply, EngineError):
        return 0, None
    unread = len(chunk.ids)
    if chunk.finish is not None:
        return unread + (chunk.finish == "stop"), None
    tokens += unread
    size = _bytes_in_kernel(response)
    return unread, round(size * tokens / content.total_bytes) if tokens else 0


async def _rest(
    content: aiohttp.StreamReader, reader: EventReader, splitter: EventSplitter, received: bytes
) -> int | None:
    """Return the tokens in ``received`` and in what comes until the server ends the stream.

    None if the server does not end it soon.
    """
    tokens = 0
    with contextlib.suppress(BadReply, EngineError, aiohttp.ClientError, ConnectionError):
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while True:
                    chunk = reader.read(splitter.feed(received))
                    tokens += len(chunk.ids)
                    if chunk.finish is not None:
                        return tokens + (chunk.finish == "stop")
                    received = await content.readany()
                    if not received:
                        break
        except TimeoutError:
            return None
    return tokens


class LateTokens:
    """Mean number of tokens that a server generates between the close of a stream and its abort.

    Most closes abort the connection, so these tokens never come. One in :data:`MEASURED_CLOSES`
    ends only its sending side; the server closes the connection when it notices that, and what has
    come until then is counted. What the server never sends is as much as it sends at once, but for
    the token that it is sending.
    """

    def __init__(self) -> None:
        self._tokens, self._measured = 1, 1  # at first: the step that the server is in
        self._read = self._events = 0  # tokens and events of closed streams
        self._closes = 0
        self._measurable = True
        self._rest = 0.0

    def due(self) -> bool:
        """Return whether this close is to be measured."""
        self._closes += 1
        return self._measurable and self._closes % MEASURED_CLOSES == 0

    def add(self, tokens: int | None) -> None:
        """Add a measured close; None if the server does not notice such closes."""
        if tokens is None:
            self._measurable = False
            return
        self._tokens += tokens
        self._measured += 1

    def seen(self, tokens: int, events: int) -> None:
        """Add the tokens and events that were read of a stream that is being closed."""
        self._read += tokens
        self._events += events

    def take(self) -> int:
        """Return the estimate for one close; over many, fractions are not lost."""
        unsent = self._read / self._events - 1 if self._events else 0.0
        self._rest += self._tokens / self._measured + max(0.0, unsent)
        whole = int(self._rest)
        self._rest -= whole
        return whole


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
    with leave_when_closed(sink):
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

    def end_sending(self) -> bool:
        """Close only the sending side, if the transport can do that; return whether it did."""
        transport = None if self._connection is None else self._connection.transport
        if transport is None or not transport.can_write_eof():
            return False
        transport.write_eof()
        return True

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
