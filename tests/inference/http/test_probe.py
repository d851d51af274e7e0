"""Results of a probe, and servers that it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tessy.core.errors import (
    ConfigError,
    EngineMisconfigured,
    EngineUnavailable,
)
from tessy.inference.base import Chunk, EngineInfo
from tessy.inference.http.engine import HttpEngine
from tessy.inference.scripted import END_THINKING
from tests.support.engine_requests import CODEC, STREAMING_AND_NOT, collect, make_request, text_of
from tests.support.model_server import (
    CHAT_ONLY,
    OLD_VLLM,
    STOCK_VLLM,
    TEXT_ONLY,
    VLLM,
    FakeServer,
    Fault,
    eventually,
    writes,
)


async def test_probe_reads_name_context_capacity_and_cache(connect):
    async with FakeServer(writes("a"), capacity=2048) as server:
        engine = connect(server.url)
        found = await asyncio.gather(*[engine.probe() for _ in range(5)])
        assert len(server.seen) == 1
    assert found[0] == EngineInfo(
        model="tiny",
        mode="generate",
        context_tokens=4096,
        capacity_tokens=2048,
        prefix_caching=True,
    )


async def test_the_note_for_stock_vllm_names_the_cheaper_endpoint(connect):
    async with FakeServer(writes("a"), can=STOCK_VLLM) as server:
        engine = connect(server.url)
        info = await engine.probe()
    assert info.mode == "completions"
    assert any("--enable-scale-out" in note for note in info.notes)


@pytest.mark.parametrize("can", [TEXT_ONLY, VLLM - {"metrics"}])
async def test_prefix_caching_is_measured_where_no_metrics_report_it(connect, can):
    async with FakeServer(writes("a"), can=can) as server:
        engine = connect(server.url)
        info = await engine.probe()
    assert info.prefix_caching is True
    assert info.capacity_tokens is None
    assert any("--concurrency" in note for note in info.notes)


async def test_a_note_reports_a_disabled_prefix_cache(connect):
    metrics = 'vllm:cache_config_info{enable_prefix_caching="False",engine="0"} 1.0\n'
    async with FakeServer(writes("a"), metrics=metrics) as server:
        engine = connect(server.url)
        info = await engine.probe()
    assert info.prefix_caching is False
    assert any("--no-enable-prefix-caching" in note for note in info.notes)


async def test_a_wrong_model_name_is_refused_with_the_names_served(connect):
    async with FakeServer(writes("a"), model="qwen") as server:
        engine = connect(server.url)
        with pytest.raises(EngineMisconfigured, match="does not serve 'tiny'; it serves 'qwen'"):
            await engine.probe()


async def test_a_server_without_a_list_of_models_is_used_with_a_note(connect):
    async with FakeServer(writes("abc"), can=VLLM - {"models"}) as server:
        engine = connect(server.url)
        info = await engine.probe()
        assert text_of(await collect(engine, make_request())) == "abc"
    assert info.context_tokens is None
    assert any("name was not checked" in note for note in info.notes)


async def test_chat_only_servers_are_refused_with_the_reason(connect):
    async with FakeServer(writes("a"), can=CHAT_ONLY) as server:
        engine = connect(server.url)
        with pytest.raises(EngineMisconfigured, match="only the chat endpoint"):
            await engine.probe()


async def test_the_refusal_of_an_unusable_server_lists_every_answer(connect):
    async with FakeServer(writes("a"), can=frozenset({"models"})) as server:
        engine = connect(server.url)
        with pytest.raises(EngineMisconfigured, match=r"/v1/completions answered 404"):
            await engine.probe()


async def test_a_missing_key_is_an_error(connect):
    async with FakeServer(writes("a"), api_key="secret") as server:
        engine = connect(server.url)
        with pytest.raises(EngineMisconfigured, match="API key"):
            await engine.probe()


async def test_a_server_that_cannot_stream_is_used_without_streaming(connect):
    async with FakeServer(writes("abc", END_THINKING), streams=False) as server:
        engine = connect(server.url)
        info = await engine.probe()
        chunks = await collect(engine, make_request())
    assert info.streaming is False
    assert chunks == [Chunk(tuple(b"abc"), "stop", END_THINKING)]


async def test_a_requested_wire_must_work(connect):
    async with FakeServer(writes("abc"), can=TEXT_ONLY | VLLM) as server:
        engine = connect(server.url, wire="text")
        assert (await engine.probe()).mode == "text"
        engine = connect(server.url, wire="sglang")
        with pytest.raises(EngineMisconfigured, match=r"/generate answered 404"):
            await engine.probe()


@STREAMING_AND_NOT
async def test_a_vllm_too_old_to_return_ids_is_refused_with_the_version_needed(connect, streaming):
    async with FakeServer(writes("abc"), can=OLD_VLLM) as server:
        engine = connect(server.url, streaming=streaming)
        with pytest.raises(EngineMisconfigured, match=r"update it to vLLM 0\.10\.2 or later"):
            await engine.probe()
        engine = connect(server.url, wire="text", streaming=streaming)
        assert (await engine.probe()).mode == "text"


async def test_a_probe_that_failed_can_be_tried_again(connect):
    server = FakeServer(writes("abc"))
    await server.start()
    await server.stop()
    engine = connect(server.url)
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1"):
        await engine.probe()
    assert await engine.health() is False
    await server.start()
    assert await engine.health() is True
    assert (await engine.probe()).mode == "generate"
    await server.stop()


async def test_streams_use_the_result_of_the_last_probe(connect):
    async with FakeServer(writes("abc", END_THINKING)) as server:
        engine = connect(server.url)
        assert (await engine.probe()).mode == "generate"
        server.can, server.context = TEXT_ONLY, 128
        found = await asyncio.gather(*[engine.probe() for _ in range(5)])
        fresh = await connect(server.url).probe()
        assert found == [fresh] * 5
        assert (fresh.mode, fresh.context_tokens) == ("text", 128)
        before = len(server.seen)
        assert text_of(await collect(engine, make_request())) == "abc"
        assert [seen.path for seen in server.seen[before:]] == ["/v1/completions"]


async def test_a_temporary_failure_does_not_select_a_simpler_wire(connect):
    async with FakeServer(writes("a")) as server:
        server.faults = [Fault("status", status=503)]
        engine = connect(server.url)
        with pytest.raises(EngineUnavailable, match="503"):
            await engine.probe()
        server.faults = [Fault("status", status=500)] * 200
        with pytest.raises(EngineUnavailable, match="500"):
            await engine.probe()
        server.faults = []
        assert (await engine.probe()).mode == "generate"


def test_an_unknown_wire_is_an_error():
    with pytest.raises(ConfigError, match="'morse'"):
        HttpEngine("http://h", "tiny", CODEC, wire="morse")


@pytest.mark.parametrize(("context", "tokens"), [(2, 1), (128, 64), (1023, 511), (4096, 512)])
@pytest.mark.parametrize("can", [TEXT_ONLY, VLLM - {"metrics"}])
async def test_the_cache_probe_takes_half_of_a_short_context(connect, can, context, tokens):
    async with FakeServer(writes("a"), can=can, context=context) as server:
        assert (await connect(server.url).probe()).prefix_caching is True
        first, second = (seen.body for seen in server.seen[-2:])
    prompt = first["prompt"] if can is TEXT_ONLY else first["token_ids"]
    assert len(prompt) == tokens
    assert first == second


class TalkativeChat(FakeServer):
    """Answers chat requests with a reply that does not end."""

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/v1/chat/completions":
            return await super()._generate(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        try:
            await asyncio.sleep(3600)
        finally:
            self.aborted += 1
        return response


async def test_the_reply_to_the_probe_of_a_chat_endpoint_is_closed_unread(connect):
    loop = asyncio.get_running_loop()
    unclosed: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unclosed.append(context))
    loop.set_debug(True)  # only then does aiohttp report a response that was never closed
    async with TalkativeChat(writes("a"), can=CHAT_ONLY) as server:
        engine = connect(server.url)
        with pytest.raises(EngineMisconfigured, match="only the chat endpoint"):
            await engine.probe()
        await eventually(lambda: server.aborted == 1)
    assert not unclosed
