"""A pool whose caller closes the sink."""

import asyncio

import pytest

from tessy.core.errors import (
    EngineRefused,
    EngineUnavailable,
)
from tessy.inference.base import Chunk, ChunkSink, Request, ServerCounters
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


class Counting(Server):
    """Has counters, as a server that others may use, too."""

    others = 0

    async def counters(self) -> ServerCounters:
        return ServerCounters(100 + len(self.seen) + self.others, 1000 + 7 * len(self.seen))


@pytest.mark.parametrize(("others", "tokens"), [(0, 21), (1, None)])
async def test_the_servers_count_holds_only_if_nobody_else_used_them(others, tokens):
    server = Counting()
    async with pool_of(server) as pool:
        await pool.start_counting()
        for number in range(3):
            await pool.stream(make_request(key=f"{number}/0"), ChunkSink(lambda chunk: None))
        server.others = others
        assert await pool.counted_tokens() == tokens


async def test_there_is_no_count_where_one_server_has_no_counters():
    async with pool_of(Counting(), Server()) as pool:
        await pool.start_counting()
        assert await pool.counted_tokens() is None


class Generous(Server):
    """Has generated more than it has sent."""

    async def stream(self, request: Request, tap: ChunkSink) -> None:
        ended = asyncio.Event()

        def close() -> None:
            tap.unseen = 3
            ended.set()

        tap.on_close = close
        await ended.wait()


async def test_what_a_closed_stream_had_generated_reaches_the_caller():
    async with pool_of(Generous()) as pool:
        tap = ChunkSink(lambda chunk: None)
        feeding = asyncio.create_task(pool.stream(make_request(), tap))
        await until(lambda: tap.on_close is not None)
        for _ in range(5):
            await asyncio.sleep(0)
        tap.close()
        await feeding
        assert tap.unseen == 3
