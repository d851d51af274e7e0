"""The connections to one server, for the one call that is made all the time."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
import struct
import urllib.parse

from tessy.engines.base import Tap
from tessy.engines.http_connection import CONNECT_SECONDS, Connection, Exchange
from tessy.engines.http_link import Link, Sockets
from tessy.engines.wire_base import Reader

# uvicorn (vLLM, SGLang) closes idle connections after 5 s; a request sent just then would fail.
_KEEP_ALIVE_SECONDS = 3.0
_RESOLVED_SECONDS = 10.0
# Closing resets the connection. Taking leave in good order, the system would keep each port for a
# minute, and a hundred samples, which end a thousand streams a second, would run out of ports.
_AT_ONCE = struct.pack("ii", 1, 0)
_UNDER_WAY = (0, errno.EINPROGRESS)
_NONBLOCKING = getattr(socket, "SOCK_NONBLOCK", 0)  # Linux: a call less for each connection
_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Place = tuple[int, int, int, str, _Address]  # as getaddrinfo gives it


class Connections:
    """The connections to one server."""

    def __init__(self, root: str, headers: dict[str, str], *, stall_seconds: float) -> None:
        """Nothing is connected yet.

        Args:
            root: Where paths begin: an http(s) URL.
            headers: Sent with every request.
            stall_seconds: Longest silence.
        """
        parts = urllib.parse.urlsplit(root)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
        place = parts.netloc.rpartition("@")[2]
        named = {
            "Host": place.encode("idna").decode() if not place.isascii() else place,
            "User-Agent": "tessy",  # some gateways serve nobody without a name
            "Content-Type": "application/json",
            **headers,
        }
        self._head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._stall_seconds = stall_seconds
        self._sockets: Sockets | None = None  # none before the first connection
        self._active: set[Connection] = set()
        self._idle: dict[Connection, float] = {}  # since when (loop's clock), oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._addresses: list[_Place] = []
        self._good: _Place | None = None  # one that was connected to
        self._resolved = 0.0  # until when the addresses are good (loop's clock)

    async def send(
        self,
        path: str,
        headers: str,
        body: bytes,
        *,
        reader: Reader,
        tap: Tap,
        read_seconds: float = 0.0,
    ) -> Exchange:
        """POST ``body``; returns when the reply is whole or ``tap`` was closed.

        Args:
            path: Below the root.
            headers: Further ones, as they are written.
            body: JSON.
            reader: Reads its events.
            tap: Where its chunks go.
            read_seconds: Longest silence; the stall limit if that is more.

        Raises:
            OSError: No connection, or it broke; TimeoutError after too much silence.
            BadReply: The reply is not what was asked for.
            EngineError: What ``reader`` found in the reply.
        """
        head = (
            f"POST {self._path}{path} HTTP/1.1\r\n{self._head}{headers}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        sent = head.encode("latin-1"), body  # apart: putting a long body together again costs
        silence = max(self._stall_seconds, read_seconds)
        for last in (False, True):
            connection = self._take() or await self._connect()
            exchange = Exchange(sent, reader, tap)
            if tap.closed:  # while it was connecting
                self._over(connection, keep=True)
                return exchange
            self._active.add(connection)
            connection.start(exchange, silence)
            self._wind(connection.heard + min(silence, CONNECT_SECONDS))
            tap.on_close = functools.partial(_leave, connection, exchange)
            try:
                await exchange.done
            except OSError as error:
                self._good = None  # it may not be any more
                # Most likely an idle connection that the server closed while we were busy: that
                # says nothing of the server, and the next one is new.
                if last or connection.began or not isinstance(error, ConnectionError):
                    raise
                continue
            finally:
                tap.on_close = None
                _leave(connection, exchange)  # it was cancelled
            return exchange
        raise AssertionError("the last try returns or raises")

    async def aclose(self) -> None:
        """Close every connection; requests must have ended before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in (*self._active, *self._idle):
            connection.leave()
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
        await asyncio.sleep(0)  # transports close in the loop's next turn

    # -- connections

    def _take(self) -> Connection | None:
        """The connection used last: it is the least likely to have been closed."""
        loop = asyncio.get_running_loop()
        if self._sockets is not None and self._sockets.loop is not loop:
            raise RuntimeError("these connections belong to another event loop: close them there")
        oldest = loop.time() - _KEEP_ALIVE_SECONDS
        while self._idle:
            connection, since = self._idle.popitem()
            if connection.open and since > oldest:
                return connection
            connection.leave()
        return None

    def _over(self, connection: Connection, keep: bool) -> None:
        self._active.discard(connection)
        self._idle.pop(connection, None)
        if keep and connection.open:
            self._idle[connection] = now = asyncio.get_running_loop().time()
            self._wind(now + _KEEP_ALIVE_SECONDS)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._good is not None and loop.time() < self._resolved and not self._tls:
            # Nothing is waited for, so nothing needs a limit.
            return await self._join(self._good, wait=False)
        if self._resolved < loop.time():
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._resolve()
        places = sorted(self._addresses, key=lambda place: place != self._good)
        for place in places:
            try:
                # For each: one that swallows what is sent to it may stand before one that serves.
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._join(place, wait=place != self._good)
            except OSError as error:
                if place == self._good:
                    self._good = None
                if isinstance(error, ssl.SSLError) or place == places[-1]:
                    self._resolved = 0.0  # the server may have moved
                    raise
            else:
                self._good = place
                return connection
        raise AssertionError("a name has one address at least")

    async def _join(self, place: _Place, *, wait: bool) -> Connection:
        """Connect to ``place``.

        Args:
            place: Where.
            wait: Until the server has accepted. If not, a connection that fails does so when it is
                used, and a turn of the event loop is spared.
        """
        loop = asyncio.get_running_loop()
        family, kind, protocol, _, address = place
        connecting = socket.socket(family, kind | _NONBLOCKING, protocol)
        try:
            if not _NONBLOCKING:
                connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            wait = wait or self._tls or connecting.connect_ex(address) not in _UNDER_WAY
            if wait:
                await loop.sock_connect(connecting, address)
            if not self._tls:
                connection = Connection(self._over)
                if self._sockets is None:
                    self._sockets = Sockets()
                connection.use(Link(connecting, connection, self._sockets))
                return connection
            _, connection = await loop.create_connection(
                functools.partial(Connection, self._over),
                sock=connecting,
                ssl=_tls(),
                server_hostname=self._host,
            )
        except BaseException:
            connecting.close()
            raise
        return connection

    async def _resolve(self) -> None:
        loop = asyncio.get_running_loop()
        self._addresses = list(
            await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        )
        self._resolved = loop.time() + _RESOLVED_SECONDS
        if self._good not in self._addresses:
            self._good = None

    # -- one timer for all that may be silent for too long

    def _wind(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """Give up what has been silent for too long, and come again when the next one will be."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        ends = {connection: connection.heard + connection.patience for connection in self._active}
        ends |= {idle: since + _KEEP_ALIVE_SECONDS for idle, since in self._idle.items()}
        for connection, end in ends.items():
            if end <= now:
                connection.leave(TimeoutError(f"nothing came for {connection.patience:g} s"))
        later = [end for end in ends.values() if end > now]
        if later:
            self._wind(min(later))


def _leave(connection: Connection, exchange: Exchange) -> None:
    """End ``exchange``, unless it is over: then the connection may be somebody else's already."""
    if connection.exchange is exchange:
        connection.leave()


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
