"""What the probe of a chat server makes of failures: passing ones, and servers of another kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tessy.core.errors import EngineMisconfigured, EngineUnavailable
from tessy.inference.chat import ChatEngine, ChatPool
from tests.support.chat_server import completion

ANSWERS: dict[str, Callable[[], web.Response]] = {
    "500": lambda: web.Response(status=500),
    "429": lambda: web.Response(status=429, headers={"Retry-After": "1"}),
    "page": lambda: web.Response(text="<!doctype html>", content_type="text/html"),
    "empty": lambda: web.Response(),
    "error": lambda: web.json_response({"error": "Unexpected endpoint or method. (POST /x)"}),
    "loading": lambda: web.json_response({"error": {"message": "loading", "code": 503}}),
    "other": lambda: web.json_response({"ok": True}),
}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("tessy.inference.http.doubts._WAIT_SECONDS", (0.001,) * 5)


@asynccontextmanager
async def chat_server(kind: str, first: float) -> AsyncGenerator[str, None]:
    """A chat server whose ``first`` requests fail."""
    left = first

    async def answer(request: web.Request) -> web.Response:
        nonlocal left
        left -= 1
        return ANSWERS[kind]() if left >= 0 else web.json_response(completion("[]"))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def pool_at(url: str) -> ChatPool:
    async def shortly(seconds: float) -> None:
        await asyncio.sleep(seconds / 500)

    engine = ChatEngine(url, "strong", schema={"type": "array"})
    return ChatPool([engine], [url], sleep=shortly, patience_seconds=0.5)


@pytest.mark.parametrize("first", [1, 3, 5])
@pytest.mark.parametrize("kind", ANSWERS)
async def test_passing_failures_drop_no_field(kind, first):
    async with chat_server(kind, first) as url, pool_at(url) as pool:
        assert (await pool.probe()).notes == ()


@pytest.mark.parametrize("kind", ["page", "empty", "error", "other"])
async def test_a_server_of_another_kind_is_refused_with_its_answer(kind):
    async with chat_server(kind, float("inf")) as url, pool_at(url) as pool:
        with pytest.raises(EngineMisconfigured, match="refuses even a plain chat request"):
            await pool.probe()


@pytest.mark.parametrize("kind", ["500", "429", "loading"])
async def test_a_server_in_trouble_is_waited_for(kind):
    async with chat_server(kind, float("inf")) as url, pool_at(url) as pool:
        with pytest.raises(EngineUnavailable, match="no server was ready"):
            await pool.probe()
