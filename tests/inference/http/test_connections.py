"""Connections: the choice of an address, and the event loop that owns them."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import ExitStack

import pytest

from tessy.core.errors import EngineUnavailable
from tessy.inference.http import client as http_server
from tests.support.http_replies import SHAPES, WHOLE, send, serving


async def test_the_listening_one_of_several_addresses_is_used():
    """``localhost`` often resolves to ::1 first, which may have no server."""
    async with serving(SHAPES["HTTP/1.0"], 10_000, stay=False, host="localhost") as (server, _):
        for _ in range(3):
            chunks, _ = await send(server)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE


@pytest.fixture
def silent_address(monkeypatch):
    """An address that drops all packets, as behind a firewall."""
    if sys.platform != "linux":
        pytest.skip("a full queue of connections is silent on Linux only")
    monkeypatch.setattr(http_server, "_CONNECT_SECONDS", 0.6)
    with ExitStack() as sockets:
        door = sockets.enter_context(socket.socket())
        door.bind(("127.0.0.2", 0))
        door.listen(0)
        for _ in range(3):
            caller = sockets.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(door.getsockname())
        yield door.getsockname()


def resolve_to(monkeypatch, *places: tuple[str, int]) -> None:
    """Resolve ``model.test`` to these addresses, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    async def resolve(*_, **__):
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)


async def test_an_address_that_is_silent_does_not_hide_the_next_one(silent_address, monkeypatch):
    reply = SHAPES["HTTP/1.0"]
    async with serving(reply, 10_000, stay=False, host="model.test") as (server, _):
        port = int(server.root.rpartition(":")[2].partition("/")[0])
        resolve_to(monkeypatch, silent_address, ("127.0.0.1", port))
        for _ in range(3):
            chunks, _ = await send(server)
            assert [i for chunk in chunks for i in chunk.ids] == WHOLE


async def test_a_server_with_only_silent_addresses_is_unavailable(silent_address, monkeypatch):
    async with serving(SHAPES["chunked"], 10_000, host="model.test") as (server, peers):
        resolve_to(monkeypatch, silent_address)
        with pytest.raises(EngineUnavailable, match="no answer in time"):
            await send(server)
    assert not peers


async def test_connections_of_another_event_loop_raise():
    async with serving(SHAPES["chunked"], 10_000) as (server, _):
        await send(server)

        def elsewhere() -> None:
            asyncio.run(send(server))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
