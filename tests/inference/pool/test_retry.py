"""Replicas as one engine: homes, temporary failures, permanent failures."""

import asyncio
from collections import Counter
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.errors import (
    ConfigError,
    EngineMisconfigured,
    EngineRefused,
    EngineUnavailable,
    SampleFailed,
)
from tessy.inference.base import Chunk
from tessy.inference.pool.health import LONGEST_WAIT_SECONDS, backoff
from tessy.inference.pool.pool import ReplicaPool
from tessy.inference.pool.retry import MAX_STRIKES, MAX_TRIES
from tessy.runtime.stop import Draining, Stop
from tests.support.counting_engine import (
    STOP,
    WHOLE,
    Server,
    ServerWithHealth,
    Time,
    collect,
    make_request,
    pool_of,
    refused,
    until,
)
from tests.support.engine_streams import iterate
from tests.support.replicas import healthy

# ---------------------------------------------------------------- homes


async def test_a_sample_stays_on_one_replica_until_it_is_released():
    servers = [Server(), Server(), Server()]
    async with pool_of(*servers) as pool:
        for _ in range(3):
            assert await collect(pool, make_request()) == WHOLE
        home = next(server for server in servers if server.seen)
        assert [len(server.seen) for server in servers].count(0) == 2
        assert pool.requests[pool.assign("a/0")] == 3
        pool.release("a/0")
        assert home.released == ["a/0"]
        pool.release("a/0")
        assert home.released == ["a/0"]
    assert all(server.closed for server in servers)


async def test_assign_fixes_the_home_before_the_first_request():
    servers = {"s0": Server(), "s1": Server()}
    async with pool_of(*servers.values()) as pool:
        for index in range(10):
            home = pool.assign(f"{index}/0")
            await collect(pool, make_request(f"{index}/0"))
            assert servers[home].seen[-1].key == f"{index}/0"


async def test_closing_the_stream_closes_it_on_the_server():
    server = Server()
    async with pool_of(server) as pool:
        async with aclosing(iterate(pool, make_request())) as chunks:
            await anext(chunks)
            assert server.open == 1
        assert server.open == 0


def test_a_server_cannot_be_named_twice():
    with pytest.raises(ConfigError, match="named twice"):
        ReplicaPool([Server(), Server()], ["x", "x"])


async def test_a_pool_that_was_not_entered_raises():
    pool = pool_of(Server(down=True))
    with pytest.raises(RuntimeError, match="async with"):
        await collect(pool, make_request())


# ---------------------------------------------------------------- temporary failures


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=6),
    st.integers(1, 12),
    st.integers(1, 3),
)
async def test_every_id_arrives_once_after_any_failure(breaks, max_tokens, count):
    faults: list[tuple[int, Exception | None]] = [
        (after, refused() if hard else EngineUnavailable("broke")) for after, hard in breaks
    ]
    servers = [Server(faults=faults) for _ in range(count)]
    async with pool_of(*servers) as pool:
        ids, last = await collect(pool, make_request(max_tokens=max_tokens))
    assert ids == list(range(1, 10))[:max_tokens]
    if max_tokens != 9:  # a break after the last id hides the finish reason
        assert last.finish == ("stop" if max_tokens > 9 else "length")


async def test_a_broken_stream_continues_where_it_broke():
    server = Server(faults=[(3, EngineUnavailable("broke")), (0, EngineUnavailable("again"))])
    time = Time()
    async with pool_of(server, time=time) as pool:
        assert await collect(pool, make_request(max_tokens=20)) == WHOLE
        first, second, third = server.seen
        assert pool.requests == {"s0": 3}
    assert (first.seed, first.max_tokens, list(first.prompt.ids)) == (7, 20, [0])
    assert (second.max_tokens, list(second.prompt.ids)) == (17, [0, 1, 2, 3])
    assert (third.max_tokens, list(third.prompt.ids)) == (17, [0, 1, 2, 3])
    assert second.seed == third.seed != first.seed
    assert time.waits == [backoff(1, 0.5), backoff(2, 0.5)]


async def test_a_request_that_never_began_is_repeated_with_its_own_seed():
    server = Server(faults=[(0, EngineUnavailable("broke"))])
    async with pool_of(server) as pool:
        assert await collect(pool, make_request()) == WHOLE
    assert [request.seed for request in server.seen] == [7, 7]


async def test_a_break_after_the_last_token_ends_the_stream_with_length():
    server = Server(faults=[(4, EngineUnavailable("broke"))])
    async with pool_of(server) as pool:
        assert await collect(pool, make_request(max_tokens=4)) == (
            [1, 2, 3, 4],
            Chunk((), "length"),
        )
    assert len(server.seen) == 1


async def test_a_stream_that_ends_without_a_finish_is_a_failure():
    class Silent(Server):
        async def chunks(self, request):
            if not self.seen:
                self.seen.append(request)
                yield Chunk((1,))
                return
            async for chunk in super().chunks(request):
                yield chunk

    async with pool_of(Silent()) as pool:
        assert await collect(pool, make_request()) == WHOLE


async def test_an_error_after_the_last_chunk_is_ignored():
    class Sour(Server):
        async def chunks(self, request):
            try:
                yield Chunk((1,))
                yield Chunk((), "stop", STOP)
            finally:
                self.seen.append(request)
                raise EngineUnavailable("closing failed")

    server = Sour()
    async with pool_of(server) as pool:
        assert await collect(pool, make_request()) == ([1], Chunk((), "stop", STOP))
        async with aclosing(iterate(pool, make_request())) as chunks:
            await anext(chunks)
    assert len(server.seen) == 2


async def test_a_refused_connection_moves_the_sample_at_once():
    servers = {"s0": Server(), "s1": Server()}
    moves: list[tuple[str, str]] = []
    time = Time()
    pool = pool_of(*servers.values(), time=time, on_move=lambda *move: moves.append(move))
    async with pool:
        home = pool.assign("a/0")
        other = ({"s0", "s1"} - {home}).pop()
        servers[home].down = True
        assert await collect(pool, make_request()) == WHOLE
        assert servers[home].released == ["a/0"]
        assert moves == [("a/0", other)]
        assert healthy(pool) == (other,)
        servers[home].down = False
        await until(lambda: len(healthy(pool)) == 2)
        assert pool.assign("a/0") == other
        assert {pool.assign(f"{index}/0") for index in range(9)} == {"s0", "s1"}


async def test_repeated_failures_move_the_sample_and_then_leave_the_replica():
    servers = {"s0": Server(), "s1": Server()}
    async with pool_of(*servers.values()) as pool:
        home = pool.assign("a/0")
        servers[home].poison = {"a/0": EngineUnavailable("500")}
        assert await collect(pool, make_request()) == WHOLE
        assert len(servers[home].seen) == 2
        assert len(healthy(pool)) == 2
        key = next(k for k in (f"{i}/1" for i in range(50)) if pool.assign(k) == home)
        servers[home].poison = {key: EngineUnavailable("500")}
        servers[home].broken = EngineUnavailable("still broken")  # so that no probe succeeds
        await collect(pool, make_request(key))
        assert home not in healthy(pool)


async def test_requests_wait_while_all_servers_are_down():
    server = Server(down=True)
    messages: list[str | None] = []
    time = Time()

    def on_wait(message: str | None) -> None:
        messages.append(message)
        server.down = time.now < 60

    async with pool_of(server, time=time, on_wait=on_wait) as pool:
        results = await asyncio.gather(*(collect(pool, make_request(f"{i}/0")) for i in range(5)))
    assert results == [WHOLE] * 5
    assert messages[0] == "teacher: no server answers; waiting (0 s)…"
    assert messages[-1] is None
    assert messages.count(None) == 1
    assert max(time.waits) <= LONGEST_WAIT_SECONDS
    assert server.probes < 20


async def test_an_outage_longer_than_the_patience_is_an_error():
    time = Time()
    server = Server(faults=[(2, refused())])
    async with (
        pool_of(server, time=time, patience_seconds=100) as pool,
        aclosing(iterate(pool, make_request())) as chunks,
    ):
        assert [(await anext(chunks)).ids, (await anext(chunks)).ids] == [(1,), (2,)]
        server.down = True
        with pytest.raises(EngineUnavailable, match=r"nothing came from s0 for 1\d\d s"):
            await anext(chunks)
    assert 100 <= time.now < 120


async def test_a_healthy_server_that_serves_nothing_is_given_up():
    time = Time()
    server = ServerWithHealth(faults=[(0, EngineUnavailable("500"))] * 5000)
    async with pool_of(server, time=time, patience_seconds=300) as pool:
        with pytest.raises(EngineUnavailable, match="last: 500"):
            await collect(pool, make_request())
    assert 300 <= time.now < 330


async def test_without_patience_the_first_failure_is_raised():
    async with pool_of(Server(down=True), patience_seconds=0) as pool:
        with pytest.raises(EngineUnavailable, match="connection refused"):
            await collect(pool, make_request())


async def test_retry_after_is_honoured_and_does_not_count_against_the_replica():
    busy = [(0, EngineUnavailable("429", retry_after_seconds=25.0))] * 4
    time = Time()
    async with pool_of(Server(faults=[*busy]), Server(down=True), time=time) as pool:
        pool._replicas[1].healthy = False
        assert await collect(pool, make_request()) == WHOLE
        assert healthy(pool) == ("s0",)
    assert time.now == 100.0


# ---------------------------------------------------------------- permanent failures


async def test_a_poison_request_fails_alone():
    servers = [Server(poison={"bad/0": EngineUnavailable("malformed")}) for _ in range(2)]
    async with pool_of(*servers) as pool:

        async def keep_busy() -> None:
            for index in range(300):
                assert await collect(pool, make_request(f"{index % 4}/0")) == WHOLE

        busy = asyncio.create_task(keep_busy())
        with pytest.raises(SampleFailed, match="malformed") as caught:
            await collect(pool, make_request("bad/0"))
        await busy
    tries = sum(request.key == "bad/0" for server in servers for request in server.seen)
    assert caught.value.reason == "server_error"
    assert MAX_STRIKES <= tries < 3 * MAX_STRIKES


@pytest.mark.parametrize(
    "later",
    [
        EngineUnavailable("later", retry_after_seconds=1.0),
        EngineUnavailable("later", status=429),
        EngineUnavailable("later", status=503),
    ],
)
async def test_a_request_that_is_always_deferred_is_given_up(later):
    server = ServerWithHealth(poison={"bad/0": later})
    async with pool_of(server, patience_seconds=1e9) as pool:

        async def now_and_then() -> None:
            while True:
                await collect(pool, make_request("good/0"))

        others = asyncio.create_task(now_and_then())
        with pytest.raises(SampleFailed, match="later"):
            await collect(pool, make_request("bad/0"))
        others.cancel()
    assert Counter(request.key for request in server.seen)["bad/0"] == MAX_TRIES


async def test_a_refused_request_fails_the_sample_at_once():
    server = Server(poison={"a/0": EngineRefused("400: too long")})
    async with pool_of(server, Server(poison=server.poison)) as pool:
        with pytest.raises(SampleFailed, match="too long") as caught:
            await collect(pool, make_request())
        assert sum(pool.requests.values()) == 1
    assert caught.value.reason == "refused"


async def test_misconfiguration_passes_through():
    async with pool_of(Server(poison={"a/0": EngineMisconfigured("401")})) as pool:
        with pytest.raises(EngineMisconfigured, match="401"):
            await collect(pool, make_request())


async def test_samples_leave_a_misconfigured_replica_for_healthy_ones(caplog):
    servers = {"s0": Server(), "s1": Server()}
    moves: list[tuple[str, str]] = []
    async with pool_of(*servers.values(), on_move=lambda *move: moves.append(move)) as pool:
        home = pool.assign("a/0")
        other = ({"s0", "s1"} - {home}).pop()
        servers[home].faults = [(3, EngineMisconfigured("401"))]
        servers[home].broken = EngineMisconfigured("401")
        assert await collect(pool, make_request()) == WHOLE
        assert moves == [("a/0", other)]
        assert f"{home} failed; retrying: 401" in caplog.text
        probes = servers[home].probes
        await until(lambda: servers[home].probes == probes + 5)
        assert healthy(pool) == (other,)
        servers[home].broken = None
        await until(lambda: len(healthy(pool)) == 2)


async def test_misconfiguration_of_the_last_replica_passes_through():
    servers = {"s0": Server(), "s1": Server()}
    for server in servers.values():
        server.poison = {"a/0": EngineMisconfigured("401")}
        server.broken = EngineMisconfigured("401")
    async with pool_of(*servers.values()) as pool:
        with pytest.raises(EngineMisconfigured, match="401"):
            await collect(pool, make_request())
        assert pool.requests == {"s0": 1, "s1": 1}


async def test_a_misconfigured_replica_does_not_end_the_wait_for_another_one():
    servers = {"s0": Server(), "s1": Server()}
    async with pool_of(*servers.values()) as pool:
        home = servers[pool.assign("a/0")]
        (other,) = (server for server in servers.values() if server is not home)
        home.poison, home.broken = {"a/0": EngineMisconfigured("401")}, EngineMisconfigured("401")
        other.down = True
        waiting = asyncio.create_task(collect(pool, make_request()))
        await until(lambda: not healthy(pool) and home.probes > 3)
        other.down = False
        assert await waiting == WHOLE


async def test_a_single_server_that_recovers_misconfigured_is_an_error():
    server = Server(down=True)
    async with pool_of(server) as pool:
        waiting = asyncio.create_task(collect(pool, make_request()))
        await until(lambda: server.probes > 1)
        server.down, server.broken = False, EngineMisconfigured("it serves another model")
        with pytest.raises(EngineMisconfigured, match="teacher: s0: it serves another model"):
            await waiting


async def test_a_run_that_drains_leaves_waiting_requests():
    stop = Stop()
    messages: list[str | None] = []
    pool = pool_of(Server(down=True), check=stop.check, on_wait=messages.append)
    async with pool:
        waiting = asyncio.create_task(collect(pool, make_request()))
        await until(lambda: len(messages) == 3)
        stop.request()
        with pytest.raises(Draining):
            await waiting


async def test_closing_the_pool_ends_all_waits():
    messages: list[str | None] = []
    pool = pool_of(Server(down=True), on_wait=messages.append)
    async with pool:
        waiting = asyncio.create_task(collect(pool, make_request()))
        await until(lambda: bool(messages))
    with pytest.raises(EngineUnavailable, match="closed"):
        await waiting


# ---------------------------------------------------------------- closed sinks
