"""A proxy before a model server, whose first requests fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import aiohttp
from aiohttp import web

KINDS = ("429", "reset", "500", "malformed")


class FaultyProxy:
    """Forwards requests to ``target``, except those whose number (from 1) ``fails`` selects."""

    def __init__(self, target: str, kind: str, fails: Callable[[int], bool]) -> None:
        self.target, self.kind, self.fails = target, kind, fails
        self.requests = self.failed = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests += 1
        if self.fails(self.requests):
            self.failed += 1
            return self._fail(request)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, self.target + request.path_qs, data=body, headers=request.headers
            ) as reply,
        ):
            response = web.StreamResponse(status=reply.status)
            response.content_type = reply.content_type
            await response.prepare(request)
            with suppress(ConnectionError):  # the client ends a span by leaving
                async for part in reply.content.iter_any():
                    await response.write(part)
                await response.write_eof()
            return response

    def _fail(self, request: web.Request) -> web.Response:
        if self.kind == "reset":
            assert request.transport is not None
            request.transport.abort()
        status = int(self.kind) if self.kind.isdigit() else 200
        return web.Response(status=status, headers={"Retry-After": "1"}, text="<html>Oops")


@contextmanager
def faulty_proxy(target: str, kind: str, fails: Callable[[int], bool]) -> Iterator[FaultyProxy]:
    """Serve a proxy in a thread, at its ``url``."""
    proxy = FaultyProxy(target, kind, fails)
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        proxy.url = f"http://{host}:{port}"
        return runner

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
