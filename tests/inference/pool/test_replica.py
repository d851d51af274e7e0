"""Choice of a replica for a sample, probes of several replicas, and recovery."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.errors import (
    EngineMisconfigured,
    EngineUnavailable,
)
from tessy.inference.base import EngineInfo
from tessy.inference.pool.health import LONGEST_WAIT_SECONDS, backoff
from tessy.inference.pool.replica import Replica, choose
from tessy.runtime.stop import Draining
from tests.support.counting_engine import (
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
from tests.support.replicas import healthy


@given(st.lists(st.text(max_size=8), unique=True, min_size=12, max_size=40), st.integers(2, 5))
def test_only_samples_of_a_removed_replica_move(keys, count):
    replicas = [Replica(f"s{index}", Server()) for index in range(count)]
    for key in keys:
        before = choose(key, replicas)
        left = [replica for replica in replicas if replica is not before]
        after = choose(key, left)
        others = [replica for replica in replicas if replica is not after]
        assert choose(key, others) is before


def test_samples_spread_by_capacity():
    replicas = [
        Replica("small", Server(), info=EngineInfo("m", "generate", capacity_tokens=1000)),
        Replica("large", Server(), info=EngineInfo("m", "generate", capacity_tokens=3000)),
    ]
    for index in range(400):
        choose(f"{index}/0", replicas).samples += 1
    small, large = (replica.samples for replica in replicas)
    assert 2.2 < large / small < 4.5
    replicas[0].info = None
    for replica in replicas:
        replica.samples = 0
    for index in range(400):
        choose(f"{index}/0", replicas).samples += 1
    small, large = (replica.samples for replica in replicas)
    assert 0.6 < large / small < 1.7


# ---------------------------------------------------------------- probing


async def probed(*infos: EngineInfo) -> EngineInfo:
    async with pool_of(*(Server(info=info) for info in infos)) as pool:
        return await pool.probe()


async def test_a_probe_returns_what_all_replicas_support():
    one = EngineInfo("m", "generate", 4096, 1000, True, notes=("slow",))
    assert await probed(one) == one
    two = EngineInfo("m", "text", 2048, 500, None, streaming=False)
    both = await probed(one, two)
    assert (both.model, both.mode, both.context_tokens, both.capacity_tokens) == (
        "m",
        "text",
        2048,
        1500,
    )
    assert (both.prefix_caching, both.streaming) == (None, False)
    assert both.notes[0] == "s0: slow"
    assert "2048, 4096" in " ".join(both.notes)
    assert (await probed(one, EngineInfo("m", "generate"))).capacity_tokens is None


async def test_an_unreachable_replica_is_a_note_if_another_answers():
    servers = [Server(), Server(down=True)]
    async with pool_of(*servers) as pool:
        info = await pool.probe()
        assert "s1 is not ready" in info.notes[0]
        assert pool.capacities == {"s0": 1000, "s1": None}
        assert healthy(pool) == ("s0",)
        servers[1].down = False
        await until(lambda: len(healthy(pool)) == 2)
        assert pool.capacities == {"s0": 1000, "s1": 1000}


async def test_a_start_without_any_server_waits_and_then_names_them():
    time = Time()
    waits: list[str | None] = []
    servers = [Server(down=True), Server(down=True)]
    async with pool_of(*servers, time=time, patience_seconds=60, on_wait=waits.append) as pool:
        with pytest.raises(EngineUnavailable, match=r"60 s: s0 \(.*; s1 \(.*start the server"):
            await pool.probe()
    assert time.now == 60
    assert all("no server is ready" in str(message) for message in waits)


@pytest.mark.parametrize("fault", [
    refused(),
    EngineUnavailable("reset"),
    EngineUnavailable("busy", status=429),
    EngineUnavailable("busy", status=429, retry_after_seconds=25.0),
    EngineUnavailable("loading", status=503),
])  # fmt: skip
async def test_a_start_waits_for_a_server_as_a_request_does(fault):
    time = Time()
    waits: list[str | None] = []
    server = Server(broken=fault)
    async with pool_of(server, time=time, patience_seconds=60, on_wait=waits.append) as pool:
        probing = asyncio.create_task(pool.probe())
        await until(lambda: server.probes == 2)
        assert time.now >= (fault.retry_after_seconds or 0)
        server.broken = None
        assert (await probing).notes == ()
        assert await collect(pool, make_request()) == WHOLE
    assert waits[-1] is None


async def test_a_drain_is_noticed_while_a_start_waits():
    def check() -> None:
        raise Draining

    async with pool_of(Server(down=True), check=check) as pool:
        with pytest.raises(Draining):
            await pool.probe()


async def test_a_misconfigured_replica_is_named():
    class Wrong(Server):
        async def probe(self):
            raise EngineMisconfigured("no such model")

    async with pool_of(Server(), Wrong()) as pool:
        with pytest.raises(EngineMisconfigured, match="teacher s1: no such model"):
            await pool.probe()


@pytest.mark.parametrize(
    "worse",
    [
        EngineInfo("m", "text", 100),
        EngineInfo("m", "generate", 50),
        EngineInfo("m", "generate", 100, streaming=False),
    ],
)
async def test_a_late_replica_with_fewer_capabilities_stays_out(worse):
    late = Server(down=True, info=worse)
    time = Time()
    async with pool_of(Server(), late, time=time) as pool:
        await pool.probe()
        late.down = False
        probes = late.probes
        await until(lambda: late.probes == probes + 3)
        assert healthy(pool) == ("s0",)
        late.info = EngineInfo("m", "generate", 200)
        await until(lambda: len(healthy(pool)) == 2)


# ---------------------------------------------------------------- waiting


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_backoff_grows_to_a_bound(tries, draw):
    assert 0 < backoff(tries, draw) <= LONGEST_WAIT_SECONDS
    assert backoff(tries + 1, draw) >= backoff(tries, draw)


async def test_an_engine_with_a_health_check_is_probed_only_if_it_passes():
    server = ServerWithHealth()
    server.well = False
    async with pool_of(server) as pool:
        await pool.probe()
        server.down = True
        waiting = asyncio.create_task(collect(pool, make_request()))
        await until(lambda: not healthy(pool))
        for _ in range(50):
            await asyncio.sleep(0)
        assert server.probes == 1
        server.down, server.well = False, True
        assert await waiting == WHOLE
    assert server.probes == 2


async def test_a_replica_that_recovers_with_less_is_logged_and_stays_out(caplog):
    servers = {"s0": ServerWithHealth(), "s1": ServerWithHealth()}
    async with pool_of(*servers.values()) as pool:
        await pool.probe()
        home = pool.assign("a/0")
        servers[home].down, servers[home].well = True, False
        assert await collect(pool, make_request()) == WHOLE
        servers[home].info = EngineInfo("m", "text", 100)
        servers[home].down, servers[home].well = False, True
        await until(lambda: f"{home} still fails: it answers in text only" in caplog.text)
        assert home not in healthy(pool)
        servers[home].info = EngineInfo("m", "generate", 100, 77)
        await until(lambda: len(healthy(pool)) == 2)
        assert pool.capacities[home] == 77
