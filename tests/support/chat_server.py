"""A chat server for tests, in its own thread: real HTTP, faults on demand."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

from tests.support.listeners import start_listening, stop_accepting

_EXCERPT = re.compile(r"\n(=== EXCERPT \w+)\n(.*)\n\1", re.DOTALL)
_STYLE = re.compile(r"Okay,|But wait,|So\b|Hmm\.")


def excerpt(body: dict[str, Any]) -> str:
    """Return the segment in a request."""
    found = _EXCERPT.search(body["messages"][-1]["content"])
    assert found is not None
    return found[2]


def marks(body: dict[str, Any]) -> str:
    """Return the reply of a correct annotator."""
    return json.dumps(_STYLE.findall(excerpt(body)))


@dataclass(frozen=True)
class Fault:
    """A fault of one request; ``reply`` sends ``body`` unchanged."""

    kind: Literal["status", "hang", "cut", "reply"]
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "out of order"


Script = Callable[[dict[str, Any]], str | Fault]


class FakeChat:
    """``with FakeChat(script) as server``: serves at ``server.url``.

    Args:
        script: Returns the reply to a request, or its fault.
        refuses: Fields that are answered with status 400.
        model: Name of the model.
        api_key: API key, required except for ``/health``.

    Attributes:
        seen: Requests, without probes (which have ``max_tokens`` 1).
        probes: Number of probes.
        faults: Faults of the next requests, in order, without probes.
        busy: Number of current requests.
        peak: Maximum number of concurrent requests.
    """

    def __init__(
        self,
        script: Script = marks,
        *,
        refuses: frozenset[str] = frozenset(),
        model: str = "strong",
        api_key: str | None = None,
        finish: str = "stop",
    ) -> None:
        self.script, self.refuses, self.model = script, refuses, model
        self.api_key, self.finish = api_key, finish
        self.seen: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.probes = self.busy = self.peak = 0
        self._port = _free_port()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)))
        self._thread.start()
        assert ready.wait(30)

    def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._thread is not None:
            self._soon(self._stopping.set)
            self._thread.join()
            self._thread = None

    def hold(self) -> None:
        """Delay replies until :meth:`go`."""
        self._soon(self._gate.clear)

    def go(self) -> None:
        self._soon(self._gate.set)

    def _soon(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(call)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping, self._gate = asyncio.Event(), asyncio.Event()
        self._gate.set()
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        listener = await start_listening(runner, self._port)
        ready.set()
        await self._stopping.wait()
        await stop_accepting(listener)
        await runner.cleanup()
        await asyncio.sleep(0.02)  # connections are closed with a delay

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return web.Response(status=401, text="who are you?")
        body = await request.json()
        if body["model"] != self.model:
            return web.Response(status=404, text="no such model")
        unknown = sorted(self.refuses & set(body))
        if unknown:
            self.probes += body["max_tokens"] == 1
            return web.Response(status=400, text=f"unknown field {unknown[0]}")
        if body["max_tokens"] == 1:
            self.probes += 1
            return _completion("Hello", "length")
        self.seen.append(body)
        fault = self.faults.pop(0) if self.faults else None
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            await self._gate.wait()
            reply = fault or self.script(body)
            if isinstance(reply, Fault):
                return await self._break(reply, request)
            return _completion(reply, self.finish)
        finally:
            self.busy -= 1

    async def _break(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        if fault.kind == "status":
            return web.Response(status=fault.status, headers=fault.headers, text=fault.body)
        if fault.kind == "hang":
            await self._stopping.wait()
        if fault.kind == "cut":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"choices"')
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(text=fault.body, content_type="application/json")


def completion(text: object, finish: str = "stop") -> dict[str, Any]:
    """Return a chat completion in the format of servers."""
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def _completion(text: str, finish: str) -> web.Response:
    return web.json_response(completion(text, finish))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
