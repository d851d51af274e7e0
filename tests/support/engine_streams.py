"""Streams of an engine as asynchronous generators, in both directions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tessy.inference.base import Chunk, ChunkSink, Engine, Request, leave_when_closed


async def iterate(engine: Engine, request: Request) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of ``engine.stream``; closing the generator closes the sink."""
    arrived: deque[Chunk] = deque()
    news = asyncio.Event()

    def put(chunk: Chunk) -> None:
        arrived.append(chunk)
        news.set()

    sink = ChunkSink(put)
    task = asyncio.create_task(engine.stream(request, sink))
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done() or arrived:
            await news.wait()
            news.clear()
            while arrived:
                yield arrived.popleft()
        await task
    finally:
        sink.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class GeneratorEngine:
    """An engine whose subclass yields chunks from ``chunks(request)``."""

    def chunks(self, request: Request) -> AsyncGenerator[Chunk, None]:
        raise NotImplementedError  # the subclass defines it

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        async with aclosing(self.chunks(request)) as chunks:
            while not sink.closed:
                chunk = None
                with leave_when_closed(sink):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                sink.put(chunk)
