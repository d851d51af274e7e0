"""Where the streaming client connects to."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import ExitStack

import pytest

from tessy.engines import http_connection, http_stream
from tests.http_replies import SHAPES, WHOLE, send, serving


async def test_a_name_with_several_addresses_finds_the_one_that_listens():
    """``localhost`` is often ::1 first, where nobody listens."""
    async with serving(SHAPES["chunked"], 10_000, host="localhost") as (connections, _):
        for _ in range(2):
            chunks, _ = await send(connections)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE


async def test_a_server_that_is_gone_refuses_also_after_it_was_known():
    async with serving(SHAPES["HTTP/1.0"], 10_000, stay=False) as (connections, _):
        await send(connections)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            place = connections._good
            assert place is not None
            gone = (*place[:4], unused.getsockname())
            connections._addresses, connections._good = [gone], gone
            with pytest.raises(ConnectionRefusedError):
                await send(connections)


@pytest.fixture
def dark(monkeypatch):
    """An address that answers nothing at all, as behind a firewall."""
    if sys.platform != "linux":
        pytest.skip("a full queue of connections is silent on Linux only")
    for module in (http_connection, http_stream):
        monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)
    with ExitStack() as sockets:
        door = sockets.enter_context(socket.socket())
        door.bind(("127.0.0.2", 0))
        door.listen(0)
        for _ in range(3):
            caller = sockets.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(door.getsockname())
        yield socket.AF_INET, socket.SOCK_STREAM, 6, "", door.getsockname()


def beside(dark, connections, monkeypatch):
    """The address of the server, which is found behind ``dark`` from now on."""
    light = (*dark[:4], ("127.0.0.1", connections._port))

    async def resolve(*_, **__):
        return [dark, light]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    return light


async def test_an_address_that_is_silent_does_not_hide_the_next_one(dark, monkeypatch):
    async with serving(SHAPES["chunked"], 10_000) as (connections, _):
        light = beside(dark, connections, monkeypatch)
        for _ in range(2):
            chunks, _ = await send(connections)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE
        assert connections._good == light


async def test_an_address_that_falls_silent_is_left_for_another_one(dark, monkeypatch):
    async with serving(SHAPES["chunked"], 10_000) as (connections, _):
        light = beside(dark, connections, monkeypatch)
        await connections._resolve()
        connections._good = dark
        with pytest.raises(TimeoutError):
            await send(connections)
        chunks, _ = await send(connections)
        assert [i for chunk in chunks for i in chunk.ids] == WHOLE
        assert connections._good == light


async def test_connections_of_another_event_loop_say_so():
    async with serving(SHAPES["chunked"], 10_000) as (connections, _):
        await send(connections)

        def elsewhere() -> None:
            asyncio.run(send(connections))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
