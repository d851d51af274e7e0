"""What is asked before it is due: the next author's request, while a last word may still grow.

Nothing here decides anything. A request that turns out to be the next one is gone on with; any
other is closed unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self

from tessy.boundary.base import Judgement
from tessy.engines.base import Chunk
from tessy.errors import TessyError
from tessy.synthesis.moves import Ask, Early, Peek


class _Begun:
    """An early request and an early peek, under way."""

    def __init__(
        self,
        early: Early,
        stream: AsyncGenerator[Chunk, None],
        judging: Coroutine[Any, Any, Judgement] | None,
    ) -> None:
        self.early, self.stream = early, stream
        self.sent = False
        self.first = asyncio.create_task(self._read())
        self.judging = asyncio.create_task(judging) if judging is not None else None

    async def _read(self) -> Chunk:
        self.sent = True
        return await anext(self.stream)

    @property
    def brought(self) -> int:
        """Tokens that have arrived."""
        first = self.first
        if not first.done() or first.cancelled() or first.exception() is not None:
            return 0
        return len(first.result().ids)

    async def close(self) -> None:
        """End what is still under way; whatever became of it, nobody needs it."""
        tasks = [task for task in (self.first, self.judging) if task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            if self.first.done():  # else it is being cancelled, and its stream closes with it
                with suppress(TessyError):
                    await self.stream.aclose()


class Ahead:
    """At most one early hand-over of one sample; use it as ``async with Ahead(…) as ahead``."""

    def __init__(
        self,
        stream: Callable[[Ask], AsyncGenerator[Chunk, None]],
        judge: Callable[[Peek], Coroutine[Any, Any, Judgement]],
        unread: Callable[[Ask, int], None],
    ) -> None:
        """Nothing is under way.

        Args:
            stream: Opens a request.
            judge: Asks a predictor.
            unread: Told of a request that was closed unread, and of the tokens it had brought.
        """
        self._stream, self._judge, self._unread = stream, judge, unread
        self._begun: _Begun | None = None

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is under way."""
        await self.follow(None)

    async def follow(self, early: Early | None) -> None:
        """Have ``early`` under way, and nothing else."""
        begun = self._begun
        if begun is not None and begun.early is not early:
            self._begun = None
            if begun.sent:
                self._unread(begun.early.ask, begun.brought)
            await begun.close()
        if early is not None and self._begun is None:
            judging = None if early.peek is None else self._judge(early.peek)
            self._begun = _Begun(early, self._stream(early.ask), judging)

    def judgement(self, peek: Peek) -> Awaitable[Judgement]:
        """The answer to ``peek``, which may be on its way already."""
        begun = self._begun
        if begun is not None and begun.judging is not None and begun.early.peek is peek:
            return begun.judging
        return self._judge(peek)

    async def stream(self, ask: Ask) -> AsyncGenerator[Chunk, None]:
        """The chunks of ``ask``, whose request may be under way already."""
        begun = self._begun
        if begun is None or begun.early.ask is not ask:
            await self.follow(None)
            async with aclosing(self._stream(ask)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        self._begun = None
        try:
            yield await begun.first
            async for chunk in begun.stream:
                yield chunk
        finally:
            await begun.close()
