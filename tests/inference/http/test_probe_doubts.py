"""Failures during a probe: those that pass change nothing, those that mean "not here" do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tessy.core.errors import EngineMisconfigured, EngineUnavailable
from tests.support.engine_requests import collect, make_request, text_of
from tests.support.model_server import PLAIN_OPENAI, TEXT_ONLY, FakeServer, Fault, writes

PAGE = "<!doctype html><title>A web app</title>"
LM_STUDIO = '{"error":"Unexpected endpoint or method. (POST /x)"}'


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("tessy.inference.http.doubts._WAIT_SECONDS", (0.001,) * 5)


def answer(kind: str) -> web.Response:
    """A reply that holds no result."""
    if kind == "redirect":
        return web.Response(status=302, headers={"Location": "/login"})
    if kind in ("500", "404", "405", "501"):
        return web.Response(status=int(kind), text=PAGE)
    if kind == "400":
        return web.json_response({"error": "unknown endpoint"}, status=400)
    text = {"page": PAGE, "empty": "", "error": LM_STUDIO, "other": '{"ok": true}', "list": "[]"}
    content_type = "text/html" if kind == "page" else "application/json"
    return web.Response(text=text[kind], content_type=content_type)


class OddServer(FakeServer):
    """Answers ``kind`` to the ``first`` requests and to those that ``odd`` selects."""

    kind = "500"
    first = 0
    requests = 0
    odd: Callable[[str], bool] = staticmethod(lambda path: False)

    @web.middleware
    async def _authorised(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        self.requests += 1
        if self.requests <= self.first or self.odd(request.path):
            return answer(self.kind)
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            return answer(self.kind)
        return response


@pytest.mark.parametrize("first", [1, 3, 5, 12])
@pytest.mark.parametrize("kind", ["500", "page", "empty", "error", "list"])
async def test_failures_of_the_first_requests_leave_no_trace(connect, kind, first):
    async with FakeServer(writes("abc")) as server:
        expected = await connect(server.url).probe()
    async with OddServer(writes("abc")) as odd:
        odd.kind, odd.first = kind, first
        engine = connect(odd.url)
        while True:  # as a pool does
            try:
                info = await engine.probe()
                break
            except EngineUnavailable:
                pass
        assert info == expected
        assert text_of(await collect(engine, make_request())) == "abc"


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("kind", ["status", "malformed", "no_choices", "error", "no_finish"])
async def test_failures_of_the_first_wires_do_not_select_a_simpler_one(connect, kind, count):
    async with FakeServer(writes("abc")) as server:
        expected = await connect(server.url).probe()
        server.faults = [Fault(kind)] * count
        assert await connect(server.url).probe() == expected


@pytest.mark.parametrize("can", [TEXT_ONLY, PLAIN_OPENAI])
@pytest.mark.parametrize(
    "kind",
    ["page", "empty", "error", "other", "list", "redirect", "400", "404", "405", "501", "500"],
)
async def test_whatever_a_server_answers_to_unknown_paths_the_next_wire_is_tried(
    connect, kind, can
):
    async with OddServer(writes("abc"), can=can) as server:
        server.kind = kind
        server.odd = lambda path: path == "/inference/v1/generate"
        engine = connect(server.url)
        assert (await engine.probe()).mode == "text"
        assert text_of(await collect(engine, make_request())) == "abc"


async def test_a_wire_that_fails_while_another_works_is_named(connect):
    async with OddServer(writes("abc")) as server:
        server.odd = lambda path: path == "/inference/v1/generate"
        info = await connect(server.url).probe()
    assert info.mode == "completions"
    assert any("/inference/v1/generate failed again and again" in note for note in info.notes)
    assert not any("has no /inference" in note for note in info.notes)


@pytest.mark.parametrize("kind", ["page", "empty", "error", "other", "redirect", "404"])
async def test_a_server_of_another_kind_is_refused_with_its_answer(connect, kind):
    async with OddServer(writes("abc")) as server:
        server.kind, server.odd = kind, lambda path: True
        with pytest.raises(EngineMisconfigured, match="cannot continue a text"):
            await connect(server.url).probe()


async def test_passing_failures_of_the_metrics_hide_no_capacity(connect):
    class Busy(FakeServer):
        busy_pages = 3

        async def _page(self, request: web.Request) -> web.Response:
            if request.path == "/metrics" and self.busy_pages:
                self.busy_pages -= 1
                return web.Response(status=503)
            return await super()._page(request)

    async with Busy(writes("a"), capacity=2048) as server:
        info = await connect(server.url).probe()
    assert (info.capacity_tokens, info.notes) == (2048, ())
