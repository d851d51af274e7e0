"""Faults of a server: each raises the right error."""

from __future__ import annotations

import asyncio

import pytest

from tessy.core.errors import (
    EngineError,
    EngineMisconfigured,
    EngineRefused,
    EngineUnavailable,
)
from tessy.inference.base import Chunk
from tessy.inference.http.client import ServerClient
from tessy.inference.http.faults import retry_after
from tests.support.engine_requests import (
    EVERY_WIRE,
    STREAMING_AND_NOT,
    WIRES,
    collect,
    gather,
    make_request,
    text_of,
)
from tests.support.model_server import (
    FakeServer,
    Fault,
    eventually,
    writes,
)

STATUSES: list[tuple[int, type[EngineError]]] = [
    *((status, EngineUnavailable) for status in (408, 409, 425, 429, 500, 502, 503, 504)),
    *((status, EngineRefused) for status in (400, 413, 422)),
    *((status, EngineMisconfigured) for status in (401, 403, 404, 501)),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
async def test_the_status_of_a_reply_decides_its_error(connect, status, error):
    async with FakeServer(writes("abc")) as server:
        engine = connect(server.url)
        await engine.probe()
        server.faults = [Fault("status", status=status, text="why: " + "x" * 300)]
        with pytest.raises(error) as caught:
            await collect(engine, make_request())
    assert f"{server.url}/inference/v1/generate answered {status}: why: xxx" in str(caught.value)
    assert "x" * 196 not in str(caught.value)


async def test_retry_after_is_kept(connect):
    async with FakeServer(writes("abc")) as server:
        engine = connect(server.url)
        await engine.probe()
        server.faults = [Fault("status", status=429, headers={"Retry-After": "7"})]
        with pytest.raises(EngineUnavailable) as caught:
            await collect(engine, make_request())
    assert caught.value.retry_after_seconds == 7.0


def test_retry_after_reads_seconds_and_dates():
    assert retry_after("2.5", now=0) == 2.5
    assert retry_after("-3", now=0) == 0.0
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", now=40.0) == 60.0
    for unreadable in (None, "", "soon", "nan", "inf"):
        assert retry_after(unreadable, now=0) is None


@EVERY_WIRE
@pytest.mark.parametrize("kind", ["cut", "no_finish", "malformed", "no_choices", "error"])
async def test_broken_streams_are_temporary_failures(connect, wire, kind):
    async with FakeServer(writes("abcdef"), can=WIRES[wire], token_seconds=0.005) as server:
        engine = connect(server.url)
        await engine.probe()
        server.faults = [Fault(kind, after=3)]
        chunks: list[Chunk] = []
        with pytest.raises(EngineUnavailable, match=server.url):
            await gather(engine, make_request(), chunks)
        assert "abc".startswith(text_of(chunks))
        assert text_of(await collect(engine, make_request())) == "abcdef"


@pytest.mark.parametrize("kind", ["malformed", "no_choices"])
async def test_broken_whole_replies_are_temporary_failures(connect, kind):
    async with FakeServer(writes("abcdef")) as server:
        engine = connect(server.url, streaming=False)
        await engine.probe()
        server.faults = [Fault(kind)]
        with pytest.raises(EngineUnavailable):
            await collect(engine, make_request())


@STREAMING_AND_NOT
async def test_a_hanging_server_times_out(connect, streaming):
    # Pauses between tokens, so that the silence begins long after the head of the reply.
    async with FakeServer(writes("abcdef"), token_seconds=0.02) as server:
        engine = connect(server.url, stall_seconds=0.2, streaming=streaming)
        await engine.probe()
        server.faults = [Fault("hang", after=2)]
        with pytest.raises(EngineUnavailable, match="no answer in time"):
            await collect(engine, make_request(max_tokens=3 if streaming else 1))
        await eventually(lambda: server.aborted == 1)


async def test_a_stream_may_last_longer_than_the_limit_for_silence(connect):
    async with FakeServer(writes("x" * 40), token_seconds=0.05) as server:
        engine = connect(server.url, stall_seconds=1.0)
        await engine.probe()
        assert text_of(await collect(engine, make_request())) == "x" * 40


async def test_an_error_that_the_request_caused_is_permanent_even_in_mid_stream(connect):
    async with FakeServer(writes("abcdef")) as server:
        engine = connect(server.url)
        await engine.probe()
        server.faults = [Fault("error", error={"message": "out of vocabulary", "code": 400})]
        with pytest.raises(EngineRefused, match="out of vocabulary"):
            await collect(engine, make_request())


async def test_a_request_on_a_stale_connection_is_sent_again():
    """A server may close an idle connection at any moment, even while a request is sent."""
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        while head := await reader.read(65536):
            requests.append(head)
            if served:
                break  # the second request on a connection finds it just closed
            served += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        host, port = listening.sockets[0].getsockname()
        server = ServerClient(f"http://{host}:{port}", api_key=None, stall_seconds=5.0)
        try:
            for _ in range(3):
                assert await server.post_for_json("/x", b"{}", {}, read_seconds=5.0) == {}
        finally:
            await server.aclose()
    assert len(requests) > 3  # some were sent again


async def test_a_server_that_closes_every_connection_is_unavailable():
    connections = 0

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(65536)
        writer.close()

    async with await asyncio.start_server(leave, "127.0.0.1", 0) as listening:
        host, port = listening.sockets[0].getsockname()
        server = ServerClient(f"http://{host}:{port}", api_key=None, stall_seconds=5.0)
        try:
            with pytest.raises(EngineUnavailable):
                await server.post_for_json("/x", b"{}", {}, read_seconds=5.0)
        finally:
            await server.aclose()
    assert connections == 2
