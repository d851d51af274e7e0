"""A plain TCP connection, read and written in the event loop's callbacks.

Every span ends with a connection, so what it takes to make one counts. A transport of asyncio's
takes twice as long, and two turns of the event loop more; for TLS :mod:`tessy.engines.http_stream`
uses that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

_RECEIVE_BYTES = 2**14
_LOOKS = 4  # before the event loop gets its turn
_NOTHING = memoryview(b"")
# A socket that is still being connected: Linux says the first, macOS the second.
_LATER = (errno.EAGAIN, errno.ENOTCONN)


class Lower(Protocol):
    """What a connection writes to: a :class:`Link`, or a transport of asyncio's."""

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Send ``parts``, as soon as the socket takes them."""
        ...

    def abort(self) -> None:
        """Close at once; what is not sent yet is lost."""
        ...

    def is_closing(self) -> bool:
        """Nothing can be sent any more."""
        ...

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and not sent yet."""
        ...


class Sockets:
    """Finds out which sockets have something to read, for one event loop.

    asyncio makes a handle for each that has, and running it costs as much as reading; a further one
    takes it ten steps to know. On Linux the event loop knows one poller instead, which knows the
    sockets; elsewhere asyncio knows them all.

    Attributes:
        loop: The event loop.
    """

    def __init__(self) -> None:
        """No sockets yet; needs the running event loop."""
        self.loop = asyncio.get_running_loop()
        self._ready: dict[int, Callable[[], None]] = {}
        self._poller = select.epoll() if sys.platform == "linux" else None
        if self._poller is not None:
            self.loop.add_reader(self._poller, self._look)

    def add(self, number: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever the socket with this file number has something to read."""
        if self._poller is None:
            self.loop.add_reader(number, ready)
        else:
            self._poller.register(number, select.EPOLLIN)
        self._ready[number] = ready

    def remove(self, number: int) -> None:
        """Call nobody for this socket any more; it must still be open."""
        del self._ready[number]
        if self._poller is None:
            self.loop.remove_reader(number)
        else:
            self._poller.unregister(number)

    def close(self) -> None:
        """Call nobody any more; every socket must have been removed."""
        assert not self._ready
        if self._poller is not None:
            self.loop.remove_reader(self._poller)
            self._poller.close()

    def _look(self) -> None:
        assert self._poller is not None
        # Most times more has come while this was read, and the loop's next turn costs more.
        for _ in range(_LOOKS):
            events = self._poller.poll(0)
            if not events:
                return
            for number, _ in events:
                ready = self._ready.get(number)
                if ready is not None:  # else it was left for what another one brought
                    ready()


class Link:
    """A socket that is connected, or about to be, and who is told what it receives."""

    __slots__ = ("_closed", "_left", "_loop", "_number", "_protocol", "_socket", "_sockets")

    def __init__(
        self, connected: socket.socket, protocol: asyncio.Protocol, sockets: Sockets
    ) -> None:
        """Receive from now on; closes ``connected`` when it ends.

        Args:
            connected: Non-blocking.
            protocol: Called as by a transport, but for ``connection_made`` and for the end of a
                link that was aborted.
            sockets: Where it is read from.
        """
        self._socket, self._protocol, self._sockets = connected, protocol, sockets
        self._loop = asyncio.get_running_loop()
        self._left = _NOTHING  # to be sent
        self._closed = False
        self._number = connected.fileno()
        sockets.add(self._number, self._readable)

    def is_closing(self) -> bool:
        """It has ended."""
        return self._closed

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and not sent yet."""
        return len(self._left)

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Send ``parts``; nothing that was written before may be unsent."""
        if self._closed:
            return
        assert not self._left
        sent = self._sent(lambda: self._socket.sendmsg(parts))
        if sent is not None and sent < sum(map(len, parts)):
            self._left = memoryview(b"".join(parts))[sent:]
            self._loop.add_writer(self._number, self._writable)

    def abort(self) -> None:
        """Close at once."""
        if self._closed:
            return
        self._closed = True
        self._sockets.remove(self._number)
        if self._left:
            self._loop.remove_writer(self._number)
        self._left = _NOTHING
        self._socket.close()

    @property
    def connected(self) -> bool:
        """The other side has accepted."""
        with contextlib.suppress(OSError):
            self._socket.getpeername()
            return True
        return False

    def _sent(self, send: Callable[[], int]) -> int | None:
        """How much ``send`` has sent; None if the connection is lost."""
        try:
            return send()
        except OSError as error:
            if error.errno in _LATER:
                return 0
            # Told later: whoever is writing must have returned.
            self._loop.call_soon(self._lose, error)
            return None

    def _writable(self) -> None:
        sent = self._sent(lambda: self._socket.send(self._left))
        if sent is not None:
            self._left = self._left[sent:] or _NOTHING  # an empty rest would hold the request
            if not self._left:
                self._loop.remove_writer(self._number)

    def _readable(self) -> None:
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if received:
            self._protocol.data_received(received)
        else:
            self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if not self._closed:
            self.abort()
            self._protocol.connection_lost(error)
