"""The pool over real HTTP: servers that stop in mid-stream, break replies, and restart."""

import asyncio
from contextlib import AsyncExitStack, aclosing

import pytest

from tessy.core.errors import SampleFailed
from tessy.inference.http.engine import HttpEngine
from tessy.inference.pool.pool import ReplicaPool
from tessy.inference.scripted import END_THINKING, OTHER_CONTROL, ByteCodec
from tests.support.engine_requests import make_request
from tests.support.engine_streams import iterate
from tests.support.model_server import STOCK_VLLM, FakeServer, Fault, eventually
from tests.support.replicas import healthy

CODEC = ByteCodec()
TEXT = "Okay, let's see. 3 + 4 = 7, and 7 + 5 = 12. That seems right."


def continue_text(prompt: list[int], seed: int) -> list[int]:
    """Return the ids that complete the prompt to TEXT."""
    done = len(prompt) - 1 - prompt.index(OTHER_CONTROL) if OTHER_CONTROL in prompt else 0
    return [*CODEC.encode(TEXT)[done:], END_THINKING]


async def sleep_briefly(seconds: float) -> None:
    await asyncio.sleep(seconds / 500)


async def pool_over(stack: AsyncExitStack, *servers: FakeServer) -> ReplicaPool:
    engines = []
    for server in servers:
        await stack.enter_async_context(server)
        engines.append(HttpEngine(server.url, "tiny", CODEC, stall_seconds=2.0))
    names = [server.url for server in servers]
    pool = await stack.enter_async_context(
        ReplicaPool(engines, names, role="teacher", sleep=sleep_briefly)
    )
    await pool.probe()
    return pool


async def text_by(pool: ReplicaPool, key: str) -> str:
    ids: list[int] = []
    async with aclosing(iterate(pool, make_request(key=key, max_tokens=500))) as chunks:
        async for chunk in chunks:
            ids += chunk.ids
    assert chunk.finish == "stop"
    return bytes(ids).decode()


async def test_samples_survive_a_server_that_dies_in_mid_stream():
    async with AsyncExitStack() as stack:
        servers = [FakeServer(continue_text, token_seconds=0.015) for _ in range(2)]
        pool = await pool_over(stack, *servers)
        work = [asyncio.create_task(text_by(pool, f"{index}/0")) for index in range(8)]
        await eventually(lambda: all(server.written > 40 for server in servers))
        await servers[0].stop()
        assert await asyncio.gather(*work) == [TEXT] * 8
        assert healthy(pool) == (servers[1].url,)
        await servers[0].start()
        await eventually(lambda: len(healthy(pool)) == 2)
        assert await asyncio.gather(*(text_by(pool, f"{i}/1") for i in range(8))) == [TEXT] * 8
        assert min(pool.requests.values()) > 2


async def test_an_outage_of_the_only_server_is_waited_for():
    async with AsyncExitStack() as stack:
        server = FakeServer(continue_text, token_seconds=0.015)
        pool = await pool_over(stack, server)
        work = [asyncio.create_task(text_by(pool, f"{index}/0")) for index in range(4)]
        await eventually(lambda: server.written > 40)
        await server.stop()
        await eventually(lambda: not healthy(pool))
        await server.start()
        assert await asyncio.gather(*work) == [TEXT] * 4


async def test_a_server_that_recovers_with_another_model_gets_no_requests_until_it_is_fixed(caplog):
    async with AsyncExitStack() as stack:
        servers = [FakeServer(continue_text), FakeServer(continue_text)]
        pool = await pool_over(stack, *servers)
        home, other = servers if pool.assign("a/0") == servers[0].url else servers[::-1]
        await home.stop()
        assert await text_by(pool, "a/0") == TEXT
        home.model = "huge"
        await home.start()
        await eventually(lambda: "it serves 'huge'" in caplog.text)
        assert healthy(pool) == (other.url,)
        home.model, home.can = "tiny", STOCK_VLLM  # now with another wire format
        await eventually(lambda: len(healthy(pool)) == 2)
        await other.stop()
        assert await text_by(pool, "a/0") == TEXT
        assert home.seen[-1].path == "/v1/completions"


@pytest.mark.parametrize("kind", ["cut", "no_finish", "malformed", "no_choices", "error"])
async def test_a_reply_that_breaks_is_continued(kind):
    async with AsyncExitStack() as stack:
        server = FakeServer(continue_text)
        pool = await pool_over(stack, server)
        server.faults = [Fault(kind, after=5), Fault("status", status=503), Fault(kind, after=3)]
        assert await text_by(pool, "a/0") == TEXT


async def test_a_refusal_fails_the_sample():
    async with AsyncExitStack() as stack:
        server = FakeServer(continue_text)
        pool = await pool_over(stack, server)
        server.faults = [Fault("status", status=422)]
        with pytest.raises(SampleFailed, match="422") as caught:
            await text_by(pool, "a/0")
        assert caught.value.reason == "refused"
