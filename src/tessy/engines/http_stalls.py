"""One timer for all the streams of a server that may go silent.

aiohttp's own read timeout is set anew for every packet, which costs more than reading it.
"""

from __future__ import annotations

import asyncio

import aiohttp


class StallWatch:
    """Ends the wait for a stream that has been silent for too long."""

    def __init__(self, seconds: float) -> None:
        """Allow ``seconds`` of silence; nothing is waited for yet."""
        self._seconds = seconds
        # In the order of their ends, since all may take as long.
        self._waits: dict[aiohttp.StreamReader, float] = {}  # when each is given up (loop's clock)
        self._timer: asyncio.TimerHandle | None = None

    @staticmethod
    def take_over(response: aiohttp.ClientResponse) -> None:
        """Relieve aiohttp of watching ``response``; its timer goes with the next packet."""
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = None

    async def read(self, content: aiohttp.StreamReader) -> bytes:
        """All that is there of ``content``, waiting for something if nothing is; empty at its end.

        Raises:
            aiohttp.SocketTimeoutError: Nothing came for too long.
        """
        loop = asyncio.get_running_loop()
        self._waits[content] = end = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)
        try:
            return await content.readany()
        finally:
            del self._waits[content]

    def close(self) -> None:
        """Watch no more; streams must have ended before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Give up what has waited too long, and come again when the next one will have."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for content, end in self._waits.items():
            if end > loop.time():
                self._timer = loop.call_at(end, self._look)
                break
            content.set_exception(aiohttp.SocketTimeoutError("Timeout on reading data from socket"))
