"""Listening sockets of test servers, closed without losing accepted connections."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web


async def start_listening(runner: web.AppRunner, port: int) -> socket.socket:
    """Let ``runner`` serve at a local port; 0 chooses a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    await web.SockSite(runner, listener).start()
    return listener


async def stop_accepting(listener: socket.socket) -> None:
    """Stop accepting connections, and wait until accepted ones are passed to the server.

    asyncio passes an accepted connection to its server some iterations of the loop later. If the
    server is closed before, the connection stays open, and its client waits forever.
    """
    asyncio.get_running_loop().remove_reader(listener)
    for _ in range(5):
        await asyncio.sleep(0)
