"""Patience, waits and moves of failing requests, at their limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tessy.core.errors import EngineUnavailable, SampleFailed, StorageError
from tessy.inference.pool.health import LONGEST_WAIT_SECONDS
from tests.support.counting_engine import (
    WHOLE,
    Server,
    Time,
    collect,
    make_request,
    pool_of,
    refused,
)


async def test_patience_counts_from_the_last_reply_that_was_served():
    later = EngineUnavailable("later", retry_after_seconds=1.0)
    server = Server(poison={"bad/0": later})
    async with pool_of(server, patience_seconds=50) as pool:

        async def serve_others() -> None:
            while True:
                await collect(pool, make_request("good/0"))

        others = asyncio.create_task(serve_others())
        # It fails for much longer than 50 s, but the server serves other requests meanwhile.
        with pytest.raises(SampleFailed, match="later"):
            await collect(pool, make_request("bad/0"))
        others.cancel()


async def test_a_retry_after_is_not_honoured_beyond_patience():
    time = Time()
    server = Server(faults=[(0, EngineUnavailable("busy", retry_after_seconds=1e6))])
    async with pool_of(server, time=time, patience_seconds=60) as pool:
        assert await collect(pool, make_request()) == WHOLE
    assert time.now == 60


async def test_a_drain_is_noticed_during_a_long_wait():
    class Drain(Exception):
        pass

    time = Time()

    def check() -> None:
        if time.now > 0:
            raise Drain

    server = Server(faults=[(0, EngineUnavailable("busy", retry_after_seconds=5000.0))])
    async with pool_of(server, time=time, patience_seconds=1e4, check=check) as pool:
        with pytest.raises(Drain):
            await collect(pool, make_request())
    assert time.now <= LONGEST_WAIT_SECONDS


async def test_failures_at_a_former_replica_do_not_count_at_the_next():
    servers = [Server() for _ in range(3)]
    async with pool_of(*servers) as pool:
        first = servers[int(pool.assign("a/0")[1:])]
        first.down = True
        others = [server for server in servers if server is not first]
        for server in others:
            server.faults.append((0, EngineUnavailable("500")))
        assert await collect(pool, make_request()) == WHOLE
        # One failure is not enough to leave the second replica, so the third gets no request.
        assert sorted(len(server.seen) for server in others) == [0, 2]


@dataclass
class Unclosable(Server):
    """Raises when it is closed."""

    async def aclose(self) -> None:
        await super().aclose()
        raise StorageError("stuck")


async def test_an_error_in_closing_a_replica_is_raised_after_all_are_closed():
    servers = [Unclosable(), Server()]
    pool = pool_of(*servers)
    await pool.__aenter__()
    with pytest.raises(StorageError, match="stuck"):
        await pool.aclose()
    assert all(server.closed for server in servers)


async def test_a_refused_connection_moves_the_sample_at_once():
    servers = [Server(), Server()]
    async with pool_of(*servers) as pool:
        first = servers[int(pool.assign("a/0")[1:])]
        first.faults.append((0, refused()))
        assert await collect(pool, make_request()) == WHOLE
        assert [len(server.seen) for server in servers] == [1, 1]
