"""Sockets that are read in the event loop's callbacks."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

import pytest

from tessy.engines.http_link import Link, Sockets
from tests.fake_server import eventually


class Told(asyncio.Protocol):
    """Tells what a link brings."""

    def __init__(self, told: Callable[[bytes], None]) -> None:
        self._told = told

    def data_received(self, data: bytes) -> None:
        self._told(data)


async def test_a_socket_closed_by_what_another_one_brought_is_passed_over():
    sockets = Sockets()
    links: list[Link] = []
    brought: list[bytes] = []
    failed: list[dict[str, object]] = []  # in a callback
    sockets.loop.set_exception_handler(lambda _, context: failed.append(context))

    def take(data: bytes) -> None:
        brought.append(data)
        for link in links:
            link.abort()  # the other one has something to read, too

    def link_up(told: Callable[[bytes], None]) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        links.append(Link(ours, Told(told), sockets))
        return theirs

    with link_up(take) as one, link_up(take) as two:
        numbers = {link._number for link in links}
        one.send(b"one")
        two.send(b"two")
        await eventually(lambda: bool(brought))
        await asyncio.sleep(0.01)
        assert len(brought) == 1
        links.clear()
        with link_up(brought.append) as three:  # with a number that is known
            assert links[0]._number in numbers
            three.send(b"three")
            await eventually(lambda: brought[1:] == [b"three"])
        links[0].abort()
    sockets.close()
    assert not failed


@pytest.mark.skipif(sys.platform != "linux", reason="a poller of our own is used on Linux only")
async def test_a_closed_socket_that_somebody_else_holds_wakes_nobody():
    sockets = Sockets()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours.dup():
        link = Link(ours, Told(lambda _: None), sockets)
        link.abort()
        theirs.close()
        assert sockets._poller is not None
        assert sockets._poller.poll(0) == []
    sockets.close()
