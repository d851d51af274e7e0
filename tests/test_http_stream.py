"""The streaming client against servers that write HTTP in every shape, byte by byte if need be."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from tessy.engines import http_link, http_stream
from tessy.engines.base import Chunk, Tap
from tessy.engines.http_connection import Connection
from tessy.engines.http_framing import Framing
from tessy.engines.http_link import Link
from tessy.engines.http_stream import Connections
from tessy.engines.wire_base import BadReply
from tessy.engines.wire_generate import IdsReader
from tests.collecting import no_collector
from tests.fake_server import eventually
from tests.http_replies import FIRST, KEPT, SHAPES, STREAM, WHOLE, chunked, send, serving


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_of_a_reply_gives_the_same_ids(shape, step):
    async with serving(SHAPES[shape], step, stay=shape in KEPT) as (connections, peers):
        for _ in range(3):
            chunks, exchange = await send(connections)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE
            assert (chunks[-1].finish, exchange.streamed) == ("length", True)
    assert len(peers) == (1 if shape in KEPT else 3)


@pytest.mark.parametrize("reply", [
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"HTTP/1.1 OK\r\n\r\n",
    STREAM + b"Content-Length: many\r\n\r\n",
    STREAM + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"H" * 70_000,
])  # fmt: skip
async def test_what_is_no_http_is_a_bad_reply(reply):
    async with serving(reply, 10_000) as (connections, _):
        with pytest.raises(BadReply):
            await send(connections)


async def test_chunks_that_come_in_one_packet_are_handed_on_once():
    async with serving(SHAPES["chunks cut anywhere"], 10_000) as (connections, _):
        for _ in range(2):
            chunks, _ = await send(connections)
            assert chunks == [Chunk((7, 8, 9), "length")]


@pytest.mark.parametrize("more", [SHAPES["of a length"], b"<html>"])
async def test_after_more_than_was_asked_for_the_connection_is_not_used_again(more):
    async with serving(SHAPES["chunked"] + more, 10_000) as (connections, peers):
        for _ in range(3):
            chunks, _ = await send(connections)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE
    assert len(peers) == 3


@pytest.mark.parametrize("reply", [
    STREAM + chunked(FIRST),
    STREAM + b"Content-Length: 1000\r\n\r\n" + FIRST,
    STREAM[:30],
])  # fmt: skip
async def test_a_reply_that_is_cut_off_is_a_broken_connection(reply):
    short = reply.removesuffix(b"0\r\n\r\n")
    async with serving(short, 10_000, stay=False) as (connections, peers):
        with pytest.raises(ConnectionError):
            await send(connections)
    assert len(peers) == 1  # what has begun to come is not asked for again here


@pytest.fixture
def certificate(tmp_path):
    """A self-signed one for 127.0.0.1, its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = str(tmp_path / "certificate.pem")
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {path}.key -out {path}"
    subject = ["-subj", "/CN=tessy test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *subject], check=True, capture_output=True)
    http_stream._tls.cache_clear()
    yield path
    http_stream._tls.cache_clear()


async def test_https_with_a_certificate_that_is_trusted_or_not(certificate, monkeypatch):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, f"{certificate}.key")
    async with serving(SHAPES["chunked"], 7, tls=tls) as (connections, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await send(connections)
    http_stream._tls.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    async with serving(SHAPES["chunked"], 7, tls=tls) as (connections, peers):
        for _ in range(3):
            chunks, _ = await send(connections)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE
    assert len(peers) == 1


async def test_a_status_comes_with_its_text():
    reply = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nlater"
    async with serving(reply, 3) as (connections, _):
        chunks, exchange = await send(connections)
    assert (chunks, exchange.status, exchange.text) == ([], 503, "later")
    assert exchange.headers["retry-after"] == "7"


async def send_until_closed(connections: Connections, body: bytes) -> None:
    """Close the tap at the first chunk."""
    tap = Tap(lambda _: tap.close())
    await connections.send("/x", "", body, reader=IdsReader(), tap=tap)


async def test_a_closed_tap_closes_the_connection():
    async with serving(STREAM + b"\r\n" + FIRST, 10_000) as (connections, peers):
        await send_until_closed(connections, b"{}")
        assert not connections._active
        assert not connections._idle
        await eventually(lambda: len(peers) == 1)


async def test_other_systems_read_as_linux_does(monkeypatch):
    monkeypatch.setattr(http_link, "sys", SimpleNamespace(platform="darwin"))
    async with serving(SHAPES["chunked"], 7) as (connections, peers):
        await send_until_closed(connections, b"{}")
        assert not connections._active
        for _ in range(2):
            chunks, _ = await send(connections)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE
        assert connections._sockets is not None
        assert connections._sockets._poller is None
    assert len(peers) == 2


async def test_closing_resets_the_connection_so_that_its_port_is_free_at_once():
    ends: list[BaseException | bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(STREAM + b"\r\n" + FIRST)
        try:
            ends.append(await reader.read())
        except ConnectionResetError as error:
            ends.append(error)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        root = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        connections = Connections(root, {}, stall_seconds=20.0)
        await send_until_closed(connections, b"{}")
        await eventually(lambda: bool(ends))
        await connections.aclose()
    assert isinstance(ends[0], ConnectionResetError)


async def test_a_tap_closed_behind_its_reply_leaves_the_next_one_alone():
    async with serving(SHAPES["chunked"], 7) as (connections, peers):
        closing: list[Callable[[], None] | None] = []
        first = Tap(lambda _: closing.append(first.on_close))
        await connections.send("/x", "", b"{}", reader=IdsReader(), tap=first)
        sending = asyncio.ensure_future(send(connections))
        await asyncio.sleep(0)
        assert connections._active
        assert closing[-1] is not None
        closing[-1]()  # somebody closes `first` before its own sender has had its turn
        chunks, _ = await sending
        assert [i for chunk in chunks for i in chunk.ids] == WHOLE
    assert len(peers) == 1


@asynccontextmanager
async def reading(reader_seconds: float, hang_up_after: int | None = None):
    """A server that takes a large request slowly, and perhaps leaves in the middle of it."""
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
        connections = Connections(f"http://127.0.0.1:{port}", {}, stall_seconds=20.0)
        try:
            yield connections, got
        finally:
            await connections.aclose()


async def send_large(connections: Connections) -> list[Chunk]:
    chunks: list[Chunk] = []
    body = b"x" * 2**24  # more than a socket takes at once
    await connections.send("/x", "", body, reader=IdsReader(), tap=Tap(chunks.append))
    return chunks


async def test_a_body_that_the_socket_takes_in_parts_arrives_whole():
    async with reading(0.001) as (connections, got):
        for _ in range(2):  # the second one is sent while it is connecting
            chunks = await send_large(connections)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE
    assert got == [True, True]


async def test_a_server_that_leaves_while_it_is_written_to_is_a_broken_connection():
    async with reading(0.0, hang_up_after=2**20) as (connections, _):
        with pytest.raises(ConnectionError):
            await send_large(connections)
        assert not connections._active


async def test_a_tap_closed_while_the_body_is_sent_leaves_nothing_open():
    async with reading(0.02) as (connections, got):
        tap = Tap(lambda _: None)
        sending = asyncio.ensure_future(
            connections.send("/x", "", b"x" * 2**24, reader=IdsReader(), tap=tap)
        )
        await eventually(lambda: bool(connections._active))
        tap.close()
        await sending
        assert not connections._active
        assert not connections._idle
        await eventually(lambda: got == [False])


@asynccontextmanager
async def hasty(head: bytes):
    """A server that answers before it has read more than a line, and reads no more."""
    busy = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(head)
        await busy.wait()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**10) as listening:
        port = listening.sockets[0].getsockname()[1]
        connections = Connections(f"http://127.0.0.1:{port}", {}, stall_seconds=20.0)
        try:
            yield connections
        finally:
            await connections.aclose()
            busy.set()


async def test_a_connection_on_which_a_request_is_stuck_is_not_used_again():
    async with hasty(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n") as connections:
        for _ in range(2):
            tap = Tap(lambda _: None)
            body = b"x" * 2**24
            exchange = await connections.send("/x", "", body, reader=IdsReader(), tap=tap)
            assert exchange.status == 429
            assert not connections._active
            assert not connections._idle


async def test_a_closed_connection_holds_no_request():
    with no_collector(Connection, Link, Framing, Tap) as new:
        async with serving(STREAM + b"\r\n" + FIRST, 10_000) as (connections, _):
            for _ in range(3):
                await send_until_closed(connections, b"x" * 2**15)
            assert not new()
        async with serving(SHAPES["chunked"], 10_000) as (connections, peers):
            await send(connections)
            assert connections._idle
            for peer in peers:
                assert isinstance(peer, asyncio.StreamWriter)
                peer.close()
            await eventually(lambda: not connections._idle)
            assert not new()
