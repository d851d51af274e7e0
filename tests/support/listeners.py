"""Listening sockets of the tests' servers, and how to shut one without leaving a caller inside."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web


async def open_door(runner: web.AppRunner, port: int) -> socket.socket:
    """Let ``runner`` serve at ``port`` of this machine; 0 takes a free one."""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", port))
    await web.SockSite(runner, door).start()
    return door


async def shut_door(door: socket.socket) -> None:
    """Take no further connection, and wait until those taken are the server's own.

    asyncio gives a connection to its server some turns of the loop after it took it. If the server
    was closed meanwhile, nobody owns it: it stays open unanswered, and who asks there waits.
    """
    asyncio.get_running_loop().remove_reader(door)
    for _ in range(5):
        await asyncio.sleep(0)
