"""One HTTP/1.1 connection: a POST whose reply is read as it arrives.

aiohttp hands every packet through a parser, a buffer, a future and a task. Here the packet's
callback parses it and calls whoever wants the tokens, which takes a third of the CPU time; requests
that are made once in a while stay with aiohttp (:mod:`tessy.engines.http_server`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from tessy.engines.base import Tap
from tessy.engines.sse import EventSplitter
from tessy.engines.wire_base import BadReply, Reader, joined
from tessy.errors import EngineUnavailable

CONNECT_SECONDS = 15.0
_DRAIN_SECONDS = 0.25
_HEAD_BYTES = 2**16
_HEAD_END = b"\r\n\r\n"


class Exchange:
    """A request and what has come back.

    Attributes:
        sent: Head and body of the request.
        done: Set when the reply is whole, or nobody wants the rest.
        status: Of the reply; 0 before.
        headers: Of the reply, names in lower case.
        streamed: It comes as events.
        finished: The last tokens have come.
    """

    def __init__(self, sent: bytes, reader: Reader, tap: Tap) -> None:
        """Nothing is sent yet; chunks read by ``reader`` go to ``tap``."""
        self.sent = sent
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.streamed = self.finished = False
        self._reader, self._tap = reader, tap
        self._splitter = EventSplitter()
        self._whole = bytearray()

    @property
    def text(self) -> str:
        """The body of a reply that is no stream."""
        return self._whole.decode(errors="replace")

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """The head has come."""
        self.status, self.headers = status, headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.streamed = status == 200 and kind == "text/event-stream"

    def take(self, body: bytes) -> None:
        """More of the body has come."""
        if self.streamed:
            self._read(self._splitter.feed(body))
        else:
            self._whole += body

    def end(self) -> None:
        """The body is whole."""
        if self.status != 200:
            return
        self._read(self._splitter.finish() if self.streamed else [bytes(self._whole)])
        if not self.finished:
            raise EngineUnavailable("the reply ended without a finish reason")

    def _read(self, events: list[bytes]) -> None:
        if self.finished or not events:
            return
        chunk = joined(events, self._reader)
        self.finished = chunk.finish is not None
        if chunk.ids or self.finished:
            self._tap.put(chunk)


class Connection(asyncio.Protocol):
    """One connection; one exchange at a time.

    Attributes:
        exchange: Under way.
        heard: When something last came (loop's clock), or the request was sent.
        silence: How long nothing may come.
        began: Something of the reply has come.
    """

    def __init__(self, ended: Callable[[Connection, bool], None]) -> None:
        """Not connected.

        Args:
            ended: Told when an exchange is over, and whether another one may follow.
        """
        self.exchange: Exchange | None = None
        self.heard = self.silence = 0.0
        self.began = False
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._draining: asyncio.TimerHandle | None = None
        self._rest = b""
        self._headed = self._chunked = self._keeps = False
        self._left: int | None = None  # bytes of the body to come; None: up to the end

    @property
    def open(self) -> bool:
        """A request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def patience(self) -> float:
        """How long nothing may come just now."""
        if self.began or self._transport is None or self.silence < CONNECT_SECONDS:
            return self.silence
        try:
            self._transport.get_extra_info("socket").getpeername()
        except OSError:  # not connected yet
            return CONNECT_SECONDS
        return self.silence

    def start(self, exchange: Exchange, silence: float) -> None:
        """Send a request."""
        assert self._transport is not None
        self.exchange, self.silence, self.heard = exchange, silence, self._loop.time()
        self.began = self._headed = False
        self._transport.write(exchange.sent)

    def leave(self, error: Exception | None = None, *, keep: bool = False) -> None:
        """End the exchange; what has not come of the reply is not wanted."""
        exchange, self.exchange = self.exchange, None
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        if not keep and self._transport is not None:
            self._transport.abort()
        self._ended(self, keep)
        if exchange is not None and not exchange.done.done():
            if error is None:
                exchange.done.set_result(None)
            else:
                exchange.done.set_exception(error)

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has left, or we have."""
        exchange = self.exchange
        if exchange is None:
            self._ended(self, False)
            return
        error: Exception | None = None
        if exc is None and self._headed and not self._chunked and self._left is None:
            try:
                exchange.end()  # the end of the connection is the end of the reply
            except Exception as fault:
                error = fault
        else:
            error = ConnectionResetError(str(exc or "the server closed it"))
        self.leave(error)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        exchange = self.exchange
        if exchange is None:  # nothing was asked
            self.leave()
            return
        self.heard = self._loop.time()
        self.began = True
        if self._rest:
            data, self._rest = self._rest + data, b""
        try:
            if self._headed and self._chunked:
                self._unchunk(exchange, data)
            else:
                self._read(exchange, data)
        # What goes wrong must reach whoever waits for the exchange, whatever it is.
        except Exception as error:
            if self.exchange is exchange:
                self.leave(error)
            return
        if exchange.finished and self._draining is None and self.exchange is exchange:
            # The end of the reply is waited for, so that the connection can be used again.
            self._draining = self._loop.call_later(_DRAIN_SECONDS, self.leave)

    # -- framing

    def _read(self, exchange: Exchange, data: bytes) -> None:
        while not self._headed:
            head, end, data = data.partition(_HEAD_END)
            if not end:
                if len(head) > _HEAD_BYTES:
                    raise BadReply(f"the head of the reply exceeds {_HEAD_BYTES} bytes")
                self._rest = head
                return
            self._begin(exchange, head)
        if self._chunked:
            self._unchunk(exchange, data)
            return
        if self._left is None:
            exchange.take(data)
            return
        exchange.take(data[: self._left])
        self._left -= len(data)
        if self._left <= 0:
            self._keeps = self._keeps and self._left == 0
            self._whole(exchange)

    def _begin(self, exchange: Exchange, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, status = first.partition(" ")
        try:
            code = int(status[:3])
            if not version.startswith("HTTP/1."):
                raise ValueError
            pairs = (line.partition(":") for line in lines)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            length = headers.get("content-length")
            self._left = None if length is None else int(length)
        except ValueError:
            raise BadReply(f"no HTTP/1.1 reply: {head[:100]!r}") from None
        if 100 <= code < 200:
            return  # another head follows
        self._headed = True
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if code in (204, 304):
            self._left = 0
        connection = headers.get("connection", "").lower()
        self._keeps = version != "HTTP/1.0" and "close" not in connection
        exchange.begin(code, headers)

    def _unchunk(self, exchange: Exchange, data: bytes) -> None:
        at = 0
        pieces = []
        ended = False
        while (line := data.find(b"\r\n", at)) >= 0:
            try:
                size = int(data[at:line].partition(b";")[0], 16)
            except ValueError:
                raise BadReply(f"no size of a chunk: {data[at : at + 40]!r}") from None
            if size == 0:
                end = data.find(_HEAD_END, line)  # trailers may stand before it
                if end >= 0:
                    at, ended = end + 4, True
                break
            end = line + 2 + size
            if len(data) < end + 2:
                break
            pieces.append(data[line + 2 : end])
            at = end + 2
        self._rest = data[at:]
        if pieces:
            exchange.take(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended and self.exchange is exchange:
            self._keeps = self._keeps and not self._rest
            self._rest = b""
            self._whole(exchange)

    def _whole(self, exchange: Exchange) -> None:
        exchange.end()
        if self.exchange is exchange:
            self.leave(keep=self._keeps and (self._chunked or self._left == 0))
