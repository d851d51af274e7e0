"""The task that checks failed replicas."""

import asyncio

import pytest

from tessy.core.errors import EngineUnavailable
from tests.support.counting_engine import WHOLE, Server, Time, collect, make_request, pool_of, until
from tests.support.replicas import healthy


class Buggy(Server):
    """Its check raises an unexpected error until ``fixed`` is set."""

    fixed = False

    async def probe(self):
        if not self.fixed:
            raise ZeroDivisionError("by zero")
        return await super().probe()


async def test_a_bug_in_one_check_is_logged_and_the_others_continue(caplog):
    buggy, well = Buggy(down=True), Server(down=True)
    async with pool_of(buggy, well) as pool:
        waiting = asyncio.create_task(collect(pool, make_request()))
        await until(lambda: "ZeroDivisionError" in caplog.text)
        assert not waiting.done()
        well.down = False
        assert await waiting == WHOLE
        assert healthy(pool) == ("s1",)
        buggy.fixed, buggy.down = True, False
        await until(lambda: len(healthy(pool)) == 2)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "s0 still fails: its check failed" in record.getMessage()


async def test_a_bug_in_the_only_check_ends_with_the_patience():
    time = Time()
    async with pool_of(Buggy(down=True), time=time, patience_seconds=100) as pool:
        with pytest.raises(EngineUnavailable, match=r"s0: its check failed: ZeroDivisionError"):
            await collect(pool, make_request())
    assert 100 <= time.now < 120


async def test_a_dead_health_task_ends_all_waits():
    def on_wait(message: str | None) -> None:
        raise ZeroDivisionError

    pool = await pool_of(Server(down=True), on_wait=on_wait).__aenter__()
    with pytest.raises(EngineUnavailable, match="closed"):
        await collect(pool, make_request())
    late = asyncio.create_task(collect(pool, make_request("b/0")))
    await until(late.done)
    with pytest.raises(EngineUnavailable, match="closed"):
        await late
    with pytest.raises(ZeroDivisionError):
        await pool.aclose()
