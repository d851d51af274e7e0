"""One HTTP/1.1 connection: a POST whose reply is read as it arrives.

aiohttp hands every packet through a parser, a buffer, a future and a task. Here the packet's
callback parses it and calls whoever wants the tokens, which takes a third of the CPU time; requests
that are made once in a while stay with aiohttp (:mod:`tessy.engines.http_server`). Replies are
taken apart by httptools (:mod:`tessy.engines.http_framing`), but for the packets that are alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from tessy.engines.base import Chunk, Tap
from tessy.engines.http_framing import Framing
from tessy.engines.http_link import Link, Lower
from tessy.engines.http_packets import Packets
from tessy.engines.sse import EventSplitter
from tessy.engines.wire_base import EventReader, Reader
from tessy.errors import EngineUnavailable

CONNECT_SECONDS = 15.0
_DRAIN_SECONDS = 0.25


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

    def __init__(self, sent: tuple[bytes, bytes], reader: Reader, tap: Tap) -> None:
        """Nothing is sent yet; chunks read by ``reader`` go to ``tap``."""
        self.sent = sent
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.streamed = self.finished = False
        self._reader, self._tap = EventReader(reader), tap
        self._splitter = EventSplitter()
        # None if ids do not come alone with this reader.
        self._packets = Packets() if reader.by_ids else None
        self._between = False  # two chunks, two events
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

    def repeat(self, packet: bytes) -> bool:
        """Take a packet that is like others of this reply; False if it must be taken apart."""
        if not self._between or self._packets is None:
            return False
        token_id = self._packets.id_in(packet)
        if token_id is None:
            return False
        self._tap.put(Chunk((token_id,)))
        return True

    def learn(self, body: bytes, *, between: bool) -> None:
        """A packet that brought ``body`` was taken apart; ``between``: it ended between chunks."""
        before = self._between
        self._between = between and self.streamed and not self.finished and self._splitter.idle
        if before and self._between and self._packets is not None:
            self._packets.learn(body)

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
        chunk = self._reader.read(events)
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
        self._lower: Lower | None = None
        self._draining: asyncio.TimerHandle | None = None
        self._framing: Framing | None = None

    @property
    def open(self) -> bool:
        """A request can be sent."""
        return self._lower is not None and not self._lower.is_closing()

    @property
    def patience(self) -> float:
        """How long nothing may come just now."""
        connecting = isinstance(self._lower, Link) and not self.began and not self._lower.connected
        return min(self.silence, CONNECT_SECONDS) if connecting else self.silence

    def use(self, lower: Lower) -> None:
        """Connected, or about to be."""
        self._lower = lower

    def start(self, exchange: Exchange, silence: float) -> None:
        """Send a request."""
        assert self._lower is not None
        self.exchange, self.silence, self.heard = exchange, silence, self._loop.time()
        self.began = False
        self._framing = Framing()
        self._lower.writelines(exchange.sent)

    def leave(self, error: Exception | None = None, *, keep: bool = False) -> None:
        """End the exchange; what has not come of the reply is not wanted."""
        exchange, self.exchange = self.exchange, None
        if self._framing is not None:
            self._framing.drop()
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        if self._lower is not None and (not keep or self._lower.get_write_buffer_size()):
            keep = False  # perhaps because the server did not want all of the request
            self._lower.abort()
            self._lower = None  # it knows this connection: neither would be freed at once
        self._ended(self, keep)
        if exchange is not None and not exchange.done.done():
            if error is None:
                exchange.done.set_result(None)
            else:
                exchange.done.set_exception(error)

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.use(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has left, or we have."""
        exchange = self.exchange
        if exchange is None:
            self.leave()
            return
        error: Exception | None = None
        if exc is None and self._framing is not None and self._framing.endless:
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
        try:
            if not exchange.repeat(data):
                self._read(exchange, data)
        # What goes wrong must reach whoever waits for the exchange, whatever it is.
        except Exception as error:
            if self.exchange is exchange:
                self.leave(error)
            return
        if exchange.finished and self._draining is None and self.exchange is exchange:
            # The end of the reply is waited for, so that the connection can be used again.
            self._draining = self._loop.call_later(_DRAIN_SECONDS, self.leave)

    def _read(self, exchange: Exchange, data: bytes) -> None:
        framing = self._framing
        assert framing is not None  # since the exchange started
        body = framing.feed(data)
        if framing.headed and not exchange.status:
            exchange.begin(framing.status, framing.headers)
        if body:
            exchange.take(body)
        exchange.learn(body, between=framing.between)
        if framing.whole and self.exchange is exchange:
            exchange.end()
            if self.exchange is exchange:
                self.leave(keep=framing.keeps)
