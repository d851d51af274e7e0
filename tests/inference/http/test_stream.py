"""Streams in every form of HTTP, split into packets of any size."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from tessy.core.errors import EngineMisconfigured, EngineUnavailable
from tessy.inference.base import Chunk, ChunkSink
from tessy.inference.http.client import ServerClient, UnusableReply
from tessy.inference.http.wires.vllm_generate import IdsReader
from tests.support.garbage import no_collector
from tests.support.http_replies import (
    FIRST,
    KEPT,
    LAST,
    SHAPES,
    STREAM,
    WHOLE,
    chunked,
    send,
    serving,
)
from tests.support.model_server import eventually


def ids(chunks: list[Chunk]) -> list[int]:
    return [token_id for chunk in chunks for token_id in chunk.ids]


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_of_a_reply_gives_the_same_ids(shape, step):
    async with serving(SHAPES[shape], step, stay=shape in KEPT) as (server, peers):
        for _ in range(3):
            chunks, streamed = await send(server)
            assert ids(chunks) == WHOLE
            assert (chunks[-1].finish, streamed) == ("length", True)
    assert len(peers) == (1 if shape in KEPT else 3)


@pytest.mark.parametrize("reply", [
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"HTTP/1.1 OK\r\n\r\n",
    STREAM + b"Content-Length: many\r\n\r\n",
    b"H" * 70_000,
])  # fmt: skip
async def test_a_reply_that_is_not_http_is_unusable(reply):
    async with serving(reply, 10_000) as (server, _):
        with pytest.raises(UnusableReply, match="no HTTP reply"):
            await send(server)


async def test_events_of_one_packet_are_delivered_as_one_chunk():
    async with serving(SHAPES["chunks cut anywhere"], 10_000) as (server, _):
        for _ in range(2):
            chunks, _ = await send(server)
            assert chunks == [Chunk((7, 8, 9), "length")]


async def test_a_connection_with_data_after_the_reply_is_not_reused():
    async with serving(SHAPES["chunked"] + SHAPES["of a length"], 10_000) as (server, peers):
        for _ in range(3):
            chunks, _ = await send(server)
            assert ids(chunks) == WHOLE
    assert len(peers) == 3


@pytest.mark.parametrize("reply", [
    STREAM + chunked(FIRST).removesuffix(b"0\r\n\r\n"),
    STREAM + b"Content-Length: 1000\r\n\r\n" + FIRST,
    STREAM + b"\r\n" + FIRST,
    STREAM + chunked(FIRST).removesuffix(b"0\r\n\r\n") + b"zz\r\n",
])  # fmt: skip
async def test_an_incomplete_or_garbled_reply_delivers_its_first_chunks_and_an_error(reply):
    async with serving(reply, 10_000, stay=False) as (server, peers):
        chunks: list[Chunk] = []
        with pytest.raises(EngineUnavailable, match=server.root):
            await server.generate(
                "/x", b"{}", {}, reader=IdsReader(), sink=ChunkSink(chunks.append)
            )
    assert ids(chunks) in ([7, 8], [])  # an error in the first packet hides the chunks in it
    assert len(peers) == 1  # a request whose reply has begun is not repeated


async def test_a_stream_that_stays_open_after_its_last_token_is_closed():
    reply = STREAM + b"Content-Length: 1000\r\n\r\n" + FIRST + LAST
    async with serving(reply, 10_000) as (server, peers):
        for _ in range(2):
            chunks, _ = await send(server)
            assert ids(chunks) == WHOLE
    assert len(peers) == 2


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = str(tmp_path / "certificate.pem")
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {path}.key -out {path}"
    subject = ["-subj", "/CN=tessy test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *subject], check=True, capture_output=True)
    return path


_ASK_TWICE = """
import asyncio, sys
from tessy.inference.http.client import ServerClient
from tests.support.http_replies import send

async def ask():
    server = ServerClient(sys.argv[1], api_key=None, stall_seconds=20.0)
    for _ in range(2):
        print([chunk.ids for chunk in (await send(server))[0]])
    await server.aclose()

asyncio.run(ask())
"""


async def test_https_requires_a_trusted_certificate(certificate):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, f"{certificate}.key")
    async with serving(SHAPES["chunked"], 10_000, tls=tls) as (server, peers):
        with pytest.raises(EngineMisconfigured, match="certificate"):
            await send(server)
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _ASK_TWICE, server.root),
            env={**os.environ, "SSL_CERT_FILE": certificate},
            stdout=subprocess.PIPE,
        )
        printed, _ = await asking.communicate()
        assert printed.decode().split("\n") == ["[(7, 8, 9)]"] * 2 + [""]
    assert len(peers) == 1


async def send_until_closed(server: ServerClient, body: bytes = b"{}") -> None:
    """Close the sink at the first chunk."""
    sink = ChunkSink(lambda _: sink.close())
    await server.generate("/x", body, {}, reader=IdsReader(), sink=sink)


@asynccontextmanager
async def answering(reply: bytes):
    """Serve one request; yield how the connection ended."""
    ends: list[BaseException | bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(reply)
        try:
            ends.append(await reader.read())
        except ConnectionResetError as error:
            ends.append(error)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        root = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        server = ServerClient(root, api_key=None, stall_seconds=20.0)
        try:
            yield server, ends
        finally:
            await server.aclose()


async def test_closing_resets_the_connection_so_that_its_port_is_free_at_once():
    async with answering(STREAM + b"\r\n" + FIRST) as (server, ends):
        await send_until_closed(server)
        await eventually(lambda: bool(ends))
        assert isinstance(ends[0], ConnectionResetError)


@pytest.mark.parametrize("reply", [
    b"",
    STREAM + b"\r\n",
    STREAM + b"\r\n" + FIRST,
    STREAM + b"\r\n" + FIRST[:20],
    STREAM + chunked(FIRST).removesuffix(b"0\r\n\r\n"),
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
])  # fmt: skip
async def test_closing_a_sink_during_a_stream_closes_the_connection(reply):
    async with answering(reply) as (server, ends):
        sink = ChunkSink(lambda _: None)
        sending = asyncio.ensure_future(
            server.generate("/x", b"{}", {}, reader=IdsReader(), sink=sink)
        )
        await asyncio.sleep(0.05)
        sink.close()
        await sending
        await eventually(lambda: bool(ends))
        assert isinstance(ends[0], ConnectionResetError)


async def test_a_late_close_of_a_sink_does_not_affect_the_next_request():
    async with serving(SHAPES["chunked"], 7) as (server, peers):
        closing: list[Callable[[], None] | None] = []
        first = ChunkSink(lambda _: closing.append(first.on_close))
        await server.generate("/x", b"{}", {}, reader=IdsReader(), sink=first)
        sending = asyncio.ensure_future(send(server))
        await asyncio.sleep(0)
        assert closing[-1] is not None
        closing[-1]()  # `first` is closed before its own sender continues
        chunks, _ = await sending
        assert ids(chunks) == WHOLE
    assert len(peers) == 1


@asynccontextmanager
async def reading(reader_seconds: float, hang_up_after: int | None = None):
    """Serve a large request slowly; optionally disconnect in the middle of it."""
    got: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        received = b""
        with suppress(ConnectionError):
            while len(received) < min(length, hang_up_after or length):
                more = await reader.read(2**18)
                if not more:
                    break
                received += more
                await asyncio.sleep(reader_seconds)
        got.append(received == b"x" * length)
        if hang_up_after is None:
            writer.write(SHAPES["chunked"])
        else:
            writer.transport.abort()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        server = ServerClient(f"http://127.0.0.1:{port}", api_key=None, stall_seconds=20.0)
        try:
            yield server, got
        finally:
            await server.aclose()


LARGE = b"x" * 2**24  # more than a socket takes at once


async def test_a_body_that_the_socket_takes_in_parts_arrives_whole():
    async with reading(0.001) as (server, got):
        for _ in range(2):
            chunks, _ = await send(server, LARGE)
            assert ids(chunks) == WHOLE
    assert got == [True, True]


async def test_a_server_that_disconnects_during_a_request_is_unavailable():
    async with reading(0.0, hang_up_after=2**20) as (server, _):
        with pytest.raises(EngineUnavailable, match="the connection failed"):
            await send(server, LARGE)


async def test_closing_a_sink_while_the_body_is_sent_ends_the_request():
    async with reading(0.02) as (server, got):
        sink = ChunkSink(lambda _: None)
        sending = asyncio.ensure_future(
            server.generate("/x", LARGE, {}, reader=IdsReader(), sink=sink)
        )
        await asyncio.sleep(0.1)
        sink.close()
        await sending
        await eventually(lambda: got == [False])


@asynccontextmanager
async def hasty(head: bytes):
    """Serve a reply after reading only one line of the request."""
    busy = asyncio.Event()
    peers: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer)
        await reader.readline()
        writer.write(head)
        await busy.wait()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**10) as listening:
        port = listening.sockets[0].getsockname()[1]
        server = ServerClient(f"http://127.0.0.1:{port}", api_key=None, stall_seconds=20.0)
        try:
            yield server, peers
        finally:
            await server.aclose()
            busy.set()


async def test_a_connection_on_which_a_request_is_stuck_is_not_used_again():
    head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
    async with hasty(head) as (server, peers):
        for count in (1, 2):
            with pytest.raises(EngineUnavailable, match="429"):
                await send(server, LARGE)
            assert len(peers) == count


async def test_a_closed_stream_holds_no_request():
    kinds = (ChunkSink, IdsReader, aiohttp.ClientResponse, aiohttp.ClientRequest, ResponseHandler)
    async with serving(STREAM + b"\r\n" + FIRST, 10_000) as (server, peers):
        with no_collector(*kinds) as new:
            for _ in range(3):
                await send_until_closed(server, b"x" * 2**15)
            await eventually(lambda: len(peers) == 3 and not new())
