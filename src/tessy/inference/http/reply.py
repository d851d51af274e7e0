"""Reading a reply as it arrives: aiohttp brings the bytes, a wire's reader makes chunks of them."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp

from tessy.core.errors import EngineUnavailable
from tessy.inference.base import ChunkSink, left_when_closed
from tessy.inference.http.sse import EventSplitter
from tessy.inference.http.wires.base import EventReader

FAULTS = (aiohttp.ClientError, TimeoutError, OSError)  # of a connection

_DRAIN_SECONDS = 0.25  # for what follows the last tokens of a stream


async def stream_reply(
    response: aiohttp.ClientResponse, reader: EventReader, tap: ChunkSink, silence: float
) -> None:
    """Give what arrives to ``tap``, each time all there is, until its last token or its closing.

    Args:
        response: Unread; the caller closes it.
        reader: Reads its events.
        tap: Where the chunks go; closing it closes the connection.
        silence: Seconds in which something must come.

    Raises:
        aiohttp.ClientError: The connection broke.
        TimeoutError: Nothing came for too long.
        EngineError: As ``reader`` raises it; EngineUnavailable if no finish reason came.
    """
    content, splitter, finish = response.content, EventSplitter(), None
    watch, clock = _SilenceTimer(response, silence), asyncio.get_running_loop().time
    tap.on_close = watch.abort
    try:
        while finish is None and not tap.closed:
            received = await content.readany()
            if tap.closed:
                return
            watch.heard = clock()
            chunk = reader.read(splitter.feed(received) if received else splitter.finish())
            finish = chunk.finish
            if chunk.ids or finish is not None:
                tap.put(chunk)
            elif not received:
                raise EngineUnavailable("the reply ended without a finish reason")
    except aiohttp.ClientError:
        if not tap.closed:
            raise
    finally:
        tap.on_close = None
        watch.end()
    if not tap.closed and not content.is_eof():
        await _drain(content)


async def read_whole_reply(
    response: aiohttp.ClientResponse, reader: EventReader, tap: ChunkSink
) -> None:
    """Give a reply that is no stream to ``tap``.

    Args:
        response: As in :func:`stream_reply`, and so are the others.
        reader: Reads it.
        tap: Where it goes.

    Raises:
        aiohttp.ClientError: The connection broke.
        TimeoutError: Nothing came for too long.
        EngineError: As :func:`stream_reply`.
    """
    body: bytes | None = None
    with left_when_closed(tap):
        body = await response.read()
    if body is None:
        return
    chunk = reader.read([body])
    if chunk.finish is None:
        raise EngineUnavailable("the reply ended without a finish reason")
    tap.put(chunk)


class _SilenceTimer:
    """Ends a stream that is silent for too long, or when it is told to.

    aiohttp's own limit would set a timer again for every packet, a tenth of what a packet costs.

    Attributes:
        heard: When something last came (loop's clock).
    """

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._content, self._connection = response.content, response.connection
        if self._connection is not None and self._connection.protocol is not None:
            self._connection.protocol.read_timeout = None
        self._silence = silence
        self.heard = self._loop.time()
        self._timer = self._loop.call_later(silence, self._look)

    def abort(self) -> None:
        """Close the connection at once; whoever waits for more is told that it ended."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()

    def end(self) -> None:
        """Watch no more."""
        self._timer.cancel()

    def _look(self) -> None:
        rest = self.heard + self._silence - self._loop.time()
        if rest > 0:
            self._timer = self._loop.call_later(rest, self._look)
        else:
            self._content.set_exception(TimeoutError(f"nothing came for {self._silence:g} s"))


async def _drain(content: aiohttp.StreamReader) -> None:
    """Wait a little for the end of a reply, so that its connection can be used again."""
    with contextlib.suppress(*FAULTS):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await content.readany():
                pass
