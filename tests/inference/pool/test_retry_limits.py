"""Numbers of retries of a failing request, and the effect of a reply on them."""

from __future__ import annotations

import pytest

from tessy.core.errors import EngineUnavailable, SampleFailed
from tessy.inference.pool.health import LONGEST_WAIT_SECONDS, backoff
from tessy.inference.pool.pool import ReplicaPool
from tessy.inference.pool.retry import FAILURES_TO_LEAVE, MAX_STRIKES, MAX_TRIES
from tests.support.counting_engine import (
    WHOLE,
    Server,
    ServerWithHealth,
    Time,
    collect,
    make_request,
    pool_of,
)

BROKE = EngineUnavailable("broke")


class ServesOthers(Time):
    """A clock during whose first waits another sample is served."""

    def __init__(self, waits: int = 1000) -> None:
        super().__init__()
        self.pool: ReplicaPool | None = None
        self._left = waits

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if self._left and self.pool is not None:
            self._left -= 1
            assert await collect(self.pool, make_request("good/0")) == WHOLE


class FailsOne(Server):
    """Fails only the requests of one sample: after some tokens each, then always at once."""

    def __init__(self, *after: int) -> None:
        super().__init__()
        self._after = list(after)
        self.failed = 0

    async def chunks(self, request):
        if request.key == "bad/0":
            self.failed += 1
            self.faults = [(self._after.pop(0) if self._after else 0, BROKE)]
        async for chunk in super().chunks(request):
            yield chunk


@pytest.mark.parametrize(
    ("tokens", "failures"),
    [
        ([], MAX_STRIKES + 1),  # at the first failure no other sample was served since it began
        ([1], MAX_STRIKES + 1),
        ([0, 1], 1 + MAX_STRIKES + 1),
        ([0] * MAX_STRIKES + [1], MAX_STRIKES + MAX_STRIKES + 1),
    ],
)
async def test_a_request_fails_after_five_failures_while_others_are_served(tokens, failures):
    server, time = FailsOne(*tokens), ServesOthers()
    async with pool_of(server, time=time) as pool:
        time.pool = pool
        with pytest.raises(SampleFailed, match=f"request {MAX_STRIKES + 1} times in a row"):
            await collect(pool, make_request("bad/0"))
    assert server.failed == failures


async def test_one_reply_to_another_sample_counts_once_against_a_failing_request():
    class Server(FailsOne, ServerWithHealth):
        pass

    server, time = Server(), ServesOthers(1)
    async with pool_of(server, time=time, patience_seconds=300) as pool:
        time.pool = pool
        with pytest.raises(EngineUnavailable, match="nothing came from s0"):
            await collect(pool, make_request("bad/0"))
    assert server.failed > MAX_STRIKES + 1


async def test_a_request_is_not_given_up_for_its_tries_alone():
    """A request is at fault only if the server serves other requests meanwhile."""
    faults: list[tuple[int, Exception | None]] = [(0, BROKE), (1, BROKE), *[(0, BROKE)] * 5000]
    server, time = ServerWithHealth(faults=faults), Time()
    async with pool_of(server, time=time, patience_seconds=20_000) as pool:
        with pytest.raises(EngineUnavailable, match="nothing came from s0"):
            await collect(pool, make_request())
    assert len(server.seen) > MAX_TRIES + 2


async def test_patience_ends_when_it_is_used_up():
    busy = EngineUnavailable("busy", retry_after_seconds=100.0)
    time = Time()
    async with pool_of(Server(poison={"a/0": busy}), time=time, patience_seconds=100) as pool:
        with pytest.raises(EngineUnavailable, match="for 100 s; last: busy"):
            await collect(pool, make_request())
    assert time.now == 100


@pytest.mark.parametrize(("failures", "left"), [(FAILURES_TO_LEAVE - 1, 0), (FAILURES_TO_LEAVE, 1)])
async def test_a_replica_is_left_after_three_failures_in_a_row(failures, left, caplog):
    server = Server(faults=[(0, BROKE)] * failures)
    async with pool_of(server) as pool:
        assert await collect(pool, make_request()) == WHOLE
    assert server.probes == left
    assert caplog.text.count("s0 failed") == left


async def test_failures_before_and_after_a_reply_do_not_move_a_sample_together():
    servers = {"s0": Server(), "s1": Server()}
    async with pool_of(*servers.values()) as pool:
        home = pool.assign("a/0")
        servers[home].faults = [(0, BROKE), (1, BROKE)]
        assert await collect(pool, make_request()) == WHOLE
        assert pool.assign("a/0") == home
        assert pool.requests[home] == 3


async def test_a_sample_that_was_moved_stays_through_one_failure():
    servers = {"s0": Server(), "s1": Server()}
    async with pool_of(*servers.values()) as pool:
        home = pool.assign("a/0")
        other = ({"s0", "s1"} - {home}).pop()
        servers[home].faults = [(0, BROKE)] * 2
        servers[other].faults = [(0, BROKE)]
        assert await collect(pool, make_request()) == WHOLE
        assert pool.requests == {home: 2, other: 2}


def test_waits_double_from_half_a_second_and_are_spread_over_their_second_half():
    assert [backoff(tries, 0.0) for tries in (1, 2, 3, 4, 5)] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert backoff(1, 0.5) == 0.375
    assert backoff(6, 0.0) == backoff(10**9, 0.0) == LONGEST_WAIT_SECONDS / 2
