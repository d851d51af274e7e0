"""Tokens of closed streams that were not received, and the servers' own counters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from tessy.inference.base import Chunk, ChunkSink, ServerCounters
from tessy.inference.http.client import ServerClient
from tessy.inference.http.metrics import server_counters
from tessy.inference.http.reply import MEASURED_CLOSES, LateTokens
from tessy.inference.http.wires.vllm_generate import IdsReader
from tests.support.http_replies import STREAM
from tests.support.model_server import eventually

TOKEN = b'data: {"choices":[{"finish_reason":null,"token_ids":[7]}]}\n\n'

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def closed_streams(serve: Serve, count: int) -> list[int]:
    """Close ``count`` streams at their first token; return what is estimated beyond it."""
    async with listening_at(serve) as url:
        server = ServerClient(url, api_key=None, stall_seconds=20.0)
        unseen = [await closed_stream(server) for _ in range(count)]
        await server.aclose()
    return unseen


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


async def closed_stream(server: ServerClient) -> int:
    sink = ChunkSink(lambda chunk: sink.close())
    await server.generate("/x", b"{}", {}, reader=IdsReader(), sink=sink)
    return sink.unseen


def after_close(tokens: int) -> Serve:
    """A server that sends one token, and ``tokens`` more before it notices the close."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(STREAM + b"\r\n" + TOKEN)
        try:
            await reader.read(1)  # returns at the end of the client's side
            writer.write(TOKEN * tokens)
            await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    return serve


@pytest.mark.parametrize("late", [0, 1, 5])
async def test_the_estimate_is_what_measured_closes_show(late):
    unseen = await closed_streams(after_close(late), 10 * MEASURED_CLOSES)
    rest = unseen[5 * MEASURED_CLOSES :]
    assert sum(rest) / len(rest) == pytest.approx(late, abs=0.5 + 0.25 * late)


async def test_a_server_that_does_not_notice_is_not_measured_again():
    ends: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(STREAM + b"\r\n" + TOKEN)
        while not ends or not writer.is_closing():
            try:
                writer.write(TOKEN)
                await writer.drain()
                await asyncio.sleep(0.01)
            except ConnectionError:
                break
        ends.append(True)

    unseen = await closed_streams(serve, 2 * MEASURED_CLOSES)
    assert max(unseen) <= 3  # not all that came in vain


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
        sink.close()
        await running
        received = sum(len(chunk.ids) for chunk in chunks)
        assert 21 <= received + sink.unseen <= 23
        await server.aclose()


def test_fractions_of_the_estimate_are_not_lost():
    late = LateTokens()
    late.add(0)
    assert sum(late.take() for _ in range(10)) == 5


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
