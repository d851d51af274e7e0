"""Limits for the silence of a server; pauses of this process do not count."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tessy.core.errors import EngineUnavailable
from tessy.inference.base import Chunk, ChunkSink
from tessy.inference.http.client import ServerClient
from tessy.inference.http.reply import deadline
from tessy.inference.http.wires.vllm_generate import IdsReader
from tests.support.http_replies import FIRST, LAST, STREAM, send


@contextmanager
def server_in_a_thread(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server for one connection, which continues while the test's event loop is blocked."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listening.accept()
        with connection, suppress(ConnectionError):  # the client may leave first
            serve(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()
        thread.join(10)


def begin(connection: socket.socket) -> None:
    """Read the request and send the first event of the reply."""
    connection.recv(65536)
    connection.sendall(STREAM + b"Connection: close\r\n\r\n" + FIRST)


async def test_a_stream_survives_a_pause_of_this_process():
    stopped, sent = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        begin(connection)
        stopped.wait(30)
        connection.sendall(FIRST + LAST)
        sent.set()

    def stop() -> None:  # as Ctrl-Z does: longer than the limit, while the server continues
        time.sleep(1.2)
        stopped.set()
        sent.wait(30)

    ids: list[int] = []

    def take(chunk: Chunk) -> None:
        if not ids:
            asyncio.get_running_loop().call_soon(stop)
        ids.extend(chunk.ids)

    with server_in_a_thread(serve) as root:
        server = ServerClient(root, api_key=None, stall_seconds=1)
        try:
            await server.generate("/x", b"{}", {}, reader=IdsReader(), sink=ChunkSink(take))
        finally:
            await server.aclose()
    assert ids == [7, 8, 7, 8, 9]


async def test_the_error_of_a_silent_stream_has_the_seconds():
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        begin(connection)
        over.wait(30)

    with server_in_a_thread(serve) as root:
        server = ServerClient(root, api_key=None, stall_seconds=1)
        try:
            with pytest.raises(EngineUnavailable, match=r"in time.*nothing came for 1 s"):
                await send(server)
        finally:
            over.set()
            await server.aclose()


async def test_a_server_that_does_not_read_the_request_times_out(monkeypatch):
    monkeypatch.setattr("tessy.inference.http.client._CONNECT_SECONDS", 0.3)
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        over.wait(30)

    with server_in_a_thread(serve) as root:
        server = ServerClient(root, api_key=None, stall_seconds=0.3)
        try:
            with pytest.raises(EngineUnavailable, match="no answer in time"):
                await send(server, b" " * (64 << 20))
        finally:
            over.set()
            await server.aclose()


async def test_a_deadline_first_receives_data_that_arrived_during_a_pause():
    loop = asyncio.get_running_loop()
    client_end, server_end = socket.socketpair()

    def stop() -> None:
        time.sleep(0.3)
        server_end.sendall(b"x")

    with client_end, server_end:
        client_end.setblocking(False)
        async with deadline(0.1):
            loop.call_soon(stop)
            assert await loop.sock_recv(client_end, 1) == b"x"


async def test_a_deadline_ends_its_block_and_nothing_after_it():
    with pytest.raises(TimeoutError):
        async with deadline(0.05):
            await asyncio.sleep(30)
    async with deadline(0.05):
        pass
    await asyncio.sleep(0.1)
