"""Repetition of the requests of a probe, because a single answer may mislead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tessy.core.errors import EngineUnavailable
from tessy.inference.http.client import UnusableReply

ResultT = TypeVar("ResultT")

# Waits of one probe, over all its requests; it takes 3 s longer if they are used up.
_WAIT_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6)


class Doubts:
    """Doubts of one probe about failures that may be the server's way to say "not here".

    Some servers answer 500, or 200 with an error or a page, to paths and fields that they lack;
    a server or a gateway in trouble does the same. Only repetition tells them apart. Other
    temporary failures are left to the pool.
    """

    def __init__(self) -> None:
        self._waits = list(_WAIT_SECONDS)

    @staticmethod
    def about(fault: EngineUnavailable) -> bool:
        """Return whether ``fault`` may mean that the server does not offer what was requested."""
        return isinstance(fault, UnusableReply) or fault.status == 500

    async def wait(self) -> bool:
        """Wait before the next repetition; False, at once, if there were enough."""
        if not self._waits:
            return False
        await asyncio.sleep(self._waits.pop(0))
        return True

    async def repeat(
        self, send: Callable[[], Awaitable[ResultT]], *, every: bool = False
    ) -> ResultT:
        """Return the result of ``send``, repeated while its failures leave doubts.

        ``every`` repeats after all temporary failures.
        """
        while True:
            try:
                return await send()
            except EngineUnavailable as fault:
                if not (every or self.about(fault)) or not await self.wait():
                    raise
