"""What is asked before it is due: the next author's request, while a last word may still grow.

Nothing here decides anything. A request that turns out to be the next one is gone on with; any
other is closed unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from tessy.boundary.base import Prediction
from tessy.inference.base import Chunk, ChunkSink, join
from tessy.synthesis.actions import Generate, PredictNext, PrefetchedTurn

Feed = Callable[[Generate, ChunkSink], Coroutine[Any, Any, None]]
Judge = Callable[[PredictNext], Awaitable[Prediction]]


class _Begun:
    """An early request and an early peek, under way."""

    def __init__(self, early: PrefetchedTurn, feed: Feed, judge: Judge) -> None:
        self.early = early
        self.sent = False
        self.chunks: list[Chunk] = []
        self.tap = ChunkSink(self.chunks.append)
        peek = early.peek  # asked first: nothing is under way if that fails
        self.judging = None if peek is None else asyncio.ensure_future(judge(peek))
        self.feeding = asyncio.create_task(self._send(feed))

    async def _send(self, feed: Feed) -> None:
        self.sent = True
        await feed(self.early.ask, self.tap)

    @property
    def brought(self) -> int:
        """Tokens that have arrived."""
        return sum(len(chunk.ids) for chunk in self.chunks)

    def close(self) -> list[asyncio.Future[Any]]:
        """End what is still under way; what that is."""
        self.tap.close()
        tasks: list[asyncio.Future[Any]] = [self.feeding]
        if self.judging is not None:
            tasks.append(self.judging)
        for task in tasks:
            task.cancel()
        return tasks


class HandoverPrefetch:
    """At most one early hand-over of one sample; use it as ``async with Ahead(…) as ahead``."""

    def __init__(self, feed: Feed, judge: Judge, unread: Callable[[Generate, int], None]) -> None:
        """Nothing is under way.

        Args:
            feed: Sends a request.
            judge: Asks a predictor.
            unread: Told of a request that was closed unread, and of the tokens it had brought.
        """
        self._feed, self._judge, self._unread = feed, judge, unread
        self._begun: _Begun | None = None
        self._ending: set[asyncio.Future[Any]] = set()

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
        self.follow(None)
        await asyncio.gather(*self._ending, return_exceptions=True)

    @property
    def busy(self) -> bool:
        """Something is under way."""
        return self._begun is not None

    def follow(self, early: PrefetchedTurn | None) -> None:
        """Have ``early`` under way, and nothing else."""
        begun = self._begun
        if begun is not None and begun.early is not early:
            self._begun = None
            if begun.sent:
                self._unread(begun.early.ask, begun.brought)
            for task in begun.close():
                self._ending.add(task)
                task.add_done_callback(self._ended)
        if early is not None and self._begun is None:
            self._begun = _Begun(early, self._feed, self._judge)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # whatever became of it, nobody needs it

    def judgement(self, peek: PredictNext) -> Awaitable[Prediction]:
        """The answer to ``peek``, which may be on its way already."""
        begun = self._begun
        if begun is not None and begun.judging is not None and begun.early.peek is peek:
            return begun.judging
        return self._judge(peek)

    async def stream_into(self, ask: Generate, tap: ChunkSink) -> None:
        """Have the chunks of ``ask``, whose request may be under way already, put into ``tap``.

        Returns when it has ended, or soon after ``tap`` was closed.
        """
        begun = self._begun
        if begun is None or begun.early.ask is not ask:
            self.follow(None)
            await self._feed(ask, tap)
            return
        self._begun = None
        tap.on_close = begun.tap.close
        begun.tap.put = tap.put
        if begun.chunks:
            tap.put(join(begun.chunks))
        try:
            await begun.feeding
        finally:
            tap.on_close = None
            ending = [task for task in begun.close() if not task.done()]
            if ending:
                await asyncio.gather(*ending, return_exceptions=True)
