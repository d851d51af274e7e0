"""Tokens of closed streams that were not received, and the servers' own counters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.inference.base import Chunk, ChunkSink, ServerCounters
from tessy.inference.http.client import ServerClient
from tessy.inference.http.metrics import server_counters
from tessy.inference.http.unseen import MOST_TOKENS, PRIOR_TOKENS, UnseenTokens
from tessy.inference.http.wires.vllm_generate import IdsReader
from tests.support.http_replies import STREAM
from tests.support.model_server import eventually

TOKEN = b'data: {"choices":[{"finish_reason":null,"token_ids":[7]}]}\n\n'

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening_at(serve: Serve) -> AsyncGenerator[str, None]:
    """Serve until the end of the block, and then until every connection is closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)


async def test_what_has_arrived_is_counted():
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(STREAM + b"\r\n" + TOKEN)
        await writer.drain()
        await arrived.wait()
        writer.write(TOKEN * 20)
        await writer.drain()
        sent.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    arrived = asyncio.Event()
    async with listening_at(serve) as url:
        server = ServerClient(url, api_key=None, stall_seconds=20.0)
        chunks: list[Chunk] = []
        sink = ChunkSink(chunks.append)
        running = asyncio.create_task(
            server.generate("/x", b"{}", {}, reader=IdsReader(), sink=sink)
        )
        await eventually(lambda: len(chunks) == 1)
        arrived.set()
        await sent.wait()
        await asyncio.sleep(0.05)  # until the event loop has it
        sink.close()
        await running
        received = sum(len(chunk.ids) for chunk in chunks)
        assert received + sink.unseen in (21, 22)  # and the step that the server is in
        await server.aclose()


def test_without_a_counter_a_close_counts_as_one_step():
    unseen = UnseenTokens()
    assert [unseen.take() for _ in range(5)] == [PRIOR_TOKENS] * 5


@given(
    early=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    closes=st.integers(100, 150),
    received=st.integers(0, 1000),
)
def test_the_sum_of_the_estimates_follows_the_servers_counter(early, closes, received):
    unseen = UnseenTokens()
    unseen.receive(17)
    unseen.begin_count()
    estimates = [unseen.take() for _ in early]
    unseen.receive(received)
    unseen.begin_read()
    unseen.compare(received + sum(early))
    rate = sum(early) / len(early)
    estimates += [unseen.take() for _ in range(closes)]
    # A constant rate from here on: everything that the first estimates lacked is made up for.
    assert sum(estimates) == pytest.approx(sum(early) + rate * closes, abs=1.5)


@pytest.mark.parametrize(
    ("generated", "estimate"),
    [(40, 10), (50, 10), (55, 15), (75, 35), (35, 5)],
)
def test_an_estimate_between_the_limits_of_a_read_stays(generated, estimate):
    unseen = UnseenTokens()
    unseen.begin_count()
    assert sum(unseen.take() for _ in range(10)) == 10
    unseen.receive(30)
    unseen.begin_read()
    unseen.receive(10)  # while the counter is read
    unseen.compare(generated)
    # A mean of `estimate / 10` for each close from now on, and what the first ten lack.
    total = 10 + sum(unseen.take() for _ in range(100))
    assert total == pytest.approx(estimate * 11, abs=1.5)


VLLM = """\
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 1200.0
vllm:generation_tokens_total{engine="1",model_name="m"} 34.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.79e+09
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 7.0
vllm:time_to_first_token_seconds_count{engine="1",model_name="m"} 2.0
"""
SGLANG = """\
sglang:generation_tokens_total{model_name="m"} 7.557572e+06
sglang:num_requests_total{model_name="m"} 12.0
"""


@pytest.mark.parametrize(
    ("metrics", "counters"),
    [
        (VLLM, ServerCounters(9, 1234)),
        (SGLANG, ServerCounters(12, 7557572)),
        ("", None),
        (SGLANG.replace("num_requests_total", "others"), None),
        (VLLM.replace("1200.0", "NaN"), None),
    ],
)
def test_counters_are_sums_over_engines(metrics, counters):
    assert server_counters(metrics) == counters


def test_what_a_proxy_still_holds_is_not_taken_for_unseen_tokens():
    unseen = UnseenTokens()
    unseen.begin_count()
    assert unseen.take() == 1
    unseen.begin_read()
    unseen.compare(5000)  # of an open stream that nothing was received of
    assert sum(unseen.take() for _ in range(10)) <= 11 * MOST_TOKENS
