"""A pool whose caller closes the sink."""

import asyncio

import pytest

from tessy.core.errors import (
    EngineRefused,
    EngineUnavailable,
)
from tessy.inference.base import Chunk, ChunkSink, Request
from tessy.inference.pool.pool import ReplicaPool
from tests.support.counting_engine import (
    Server,
    make_request,
    pool_of,
    refused,
    until,
)


@pytest.mark.parametrize("down", [False, True])
async def test_closing_a_sink_between_two_tries_ends_the_wait(down):
    """The predictor may end the span when the server has just failed."""

    async def sleep(seconds: float) -> None:
        await asyncio.Event().wait()

    server = Server(faults=[(2, refused() if down else EngineUnavailable("broken"))])
    arrived: list[Chunk] = []
    async with ReplicaPool([server], ["s0"], sleep=sleep) as pool:
        sink = ChunkSink(arrived.append)
        feeding = asyncio.create_task(pool.stream(make_request(), sink))
        await until(lambda: len(arrived) == 2 and not server.open)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not feeding.done()
        sink.close()
        async with asyncio.timeout(5):
            await feeding
        assert not feeding.cancelling()
        assert len(server.seen) == 1


class Late(Server):
    """Refuses a request after its sink was closed."""

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        self.open += 1
        ended = asyncio.Event()
        sink.on_close = ended.set
        await ended.wait()
        raise EngineRefused("too late")


async def test_an_error_after_the_sink_was_closed_is_ignored():
    server = Late()
    async with pool_of(server) as pool:
        sink = ChunkSink(lambda chunk: None)
        feeding = asyncio.create_task(pool.stream(make_request(), sink))
        await until(lambda: server.open == 1)
        sink.close()
        await feeding


async def test_a_cancelled_caller_stays_cancelled_if_the_sink_is_closed_too():
    server = Server()
    async with pool_of(server) as pool:
        sink = ChunkSink(lambda chunk: None)
        feeding = asyncio.create_task(pool.stream(make_request(), sink))
        await until(lambda: server.open == 1)
        feeding.cancel()
        sink.close()
        with pytest.raises(asyncio.CancelledError):
            await feeding
        assert server.open == 0
