"""Log-probabilities and ranks of a given text, from every kind of engine."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestServer
from transformers import Qwen3Config, Qwen3ForCausalLM

from tessy.core.errors import EngineRefused, EngineUnavailable, SampleFailed
from tessy.inference.base import TOP_LOGPROBS, EngineInfo, ScoredToken
from tessy.inference.http.engine import MOST_REFUSALS, HttpEngine
from tessy.inference.http.probe import ServerCapabilities
from tessy.inference.http.wires.vllm_generate import GenerateWire
from tessy.inference.local import scoring
from tessy.inference.local.engine import LocalEngine
from tessy.inference.pool.pool import ReplicaPool
from tessy.inference.scripted import ByteCodec, ScriptedEngine
from tests.support.tiny_classifier import SIZES, build

IDS = [5, 9, 9, 3, 40, 41, 2]
Reply = Callable[[dict[str, Any]], web.Response]


def causal() -> Any:
    return build(Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=16, max_position_embeddings=64))


def vllm(model: Any) -> Reply:
    """Return the reply of a vLLM server with this model."""

    def reply(body: dict[str, Any]) -> web.Response:
        ids = body["prompt"]
        with torch.inference_mode():
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, :-1], -1)
        rows: list[dict[str, Any] | None] = [None]
        for values, token_id in zip(logprobs.tolist(), ids[1:], strict=True):
            ranked = sorted(range(len(values)), key=lambda i: -values[i])
            shown = dict.fromkeys([token_id, *ranked[: body["prompt_logprobs"]]])
            rows.append(
                {
                    str(i): {"logprob": values[i], "rank": ranked.index(i) + 1, "decoded_token": ""}
                    for i in shown
                }
            )
        return web.json_response({"choices": [{"text": "x", "prompt_logprobs": rows}]})

    return reply


def with_cache(model: Any, cached: int | None) -> Reply:
    """Return the reply of a generate endpoint; scores of ``cached`` tokens are undefined."""

    def reply(body: dict[str, Any]) -> web.Response:
        sampling = body["sampling_params"]
        assert sampling["skip_reading_prefix_cache"] is False
        whole = {"prompt": body["token_ids"], "prompt_logprobs": sampling["prompt_logprobs"]}
        rows = json.loads(vllm(model)(whole).text or "")["choices"][0]["prompt_logprobs"]
        for number in range(1, 1 + (cached or 0)):
            rows[number] = {"165": {"logprob": -8e-17, "rank": -1530977968, "decoded_token": None}}
        details = None if cached is None else {"cached_tokens": cached}
        usage = {"prompt_tokens": len(whole["prompt"]), "prompt_tokens_details": details}
        return web.json_response({"usage": usage, "prompt_logprobs": rows, "choices": []})

    return reply


@asynccontextmanager
async def server(reply: Reply, generate: Reply | None = None) -> AsyncIterator[HttpEngine]:
    served = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal served
        served += 1
        return reply(await request.json())

    async def handle_generate(request: web.Request) -> web.Response:
        nonlocal served
        assert generate is not None
        served += 1
        return generate(await request.json())

    async def metrics(request: web.Request) -> web.Response:
        names = ("vllm:time_to_first_token_seconds_count", "vllm:generation_tokens_total")
        return web.Response(text="".join(f"{name} {served}\n" for name in names))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_post("/v1/completions", handle)
    app.router.add_post("/inference/v1/generate", handle_generate)
    async with TestServer(app) as running:
        engine = HttpEngine(str(running.make_url("/")), "tiny", ByteCodec())
        if generate is not None:  # as after a probe
            engine._capabilities = ServerCapabilities(
                GenerateWire("tiny"), EngineInfo("tiny", "generate"), engines=1
            )
        try:
            yield engine
        finally:
            await engine.aclose()


def assert_close(found: list[ScoredToken], expected: list[ScoredToken]) -> None:
    assert [token.rank for token in found] == [token.rank for token in expected]
    for token, other in zip(found, expected, strict=True):
        assert token.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert token.top == pytest.approx(other.top, abs=1e-4)


async def test_a_server_and_this_process_give_the_same_scores():
    model = causal()
    local = LocalEngine(model, name="tiny")
    try:
        here = await local.score("p/0", IDS)
    finally:
        await local.aclose()
    async with server(vllm(model)) as engine:
        there = await engine.score("p/0", IDS)
    assert_close(there, here)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([IDS])).logits[0, 2]
    assert here[2].logprob == pytest.approx(torch.log_softmax(logits, -1)[IDS[3]].item(), abs=1e-4)
    assert here[2].rank == 1 + (logits > logits[IDS[3]]).sum().item()
    assert here[2].top[0] == pytest.approx(torch.log_softmax(logits, -1).max().item(), abs=1e-4)
    assert len(here[2].top) == TOP_LOGPROBS
    assert list(here[2].top) == sorted(here[2].top, reverse=True)


@pytest.mark.parametrize("start", [1, 2, 4, 6])
@pytest.mark.parametrize("top", [0, 3])
async def test_scores_from_a_start_are_the_end_of_all_scores(start, top):
    model = causal()
    local = LocalEngine(model, name="tiny")
    try:
        whole = await local.score("p/0", IDS, top=top)
        assert_close(await local.score("p/0", IDS, start, top=top), whole[start - 1 :])
    finally:
        await local.aclose()
    assert {len(token.top) for token in whole} == {top}
    for cached in (None, 0, start - 1):
        async with server(vllm(model), with_cache(model, cached)) as engine:
            assert_close(await engine.score("p/0", IDS, start, top=top), whole[start - 1 :])


async def test_a_server_that_has_cached_what_is_scored_reads_the_whole_text():
    model = causal()
    async with server(vllm(model)) as engine:
        whole = await engine.score("p/0", IDS)
    async with server(vllm(model), with_cache(model, 5)) as engine:
        assert_close(await engine.score("p/0", IDS, 5), whole[4:])


async def test_undefined_scores_that_are_no_json_make_the_server_read_the_whole_text():
    model = causal()
    async with server(vllm(model)) as engine:
        whole = await engine.score("p/0", IDS)
    refusal = {"error": {"message": "Out of range float values are not JSON compliant"}}
    tried = []

    def refuse(body: dict[str, Any]) -> web.Response:
        tried.append(body)
        return web.json_response(refusal, status=400)

    async with server(vllm(model), refuse) as engine:
        for _ in range(MOST_REFUSALS + 3):
            assert_close(await engine.score("p/0", IDS, 5), whole[4:])
    assert len(tried) == MOST_REFUSALS  # a server that always refuses is not tried for ever


@pytest.mark.parametrize("why", ["refused", "cached"])
async def test_a_pool_counts_both_requests_of_a_score(why):
    """Otherwise the pool attributes one to another client and ignores the server's count."""
    model = causal()

    def refuse(body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"message": "no JSON"}}, status=400)

    generate = {"refused": refuse, "cached": with_cache(model, 5)}[why]
    async with server(vllm(model), generate) as engine, ReplicaPool([engine], ["s0"]) as pool:
        await pool.start_counting()
        for number in range(3):
            await pool.score("p/0", IDS, 5)
            assert pool.requests == {"s0": 2 * (number + 1)}
        assert await pool.counted_tokens() == 6  # one of each request


async def test_a_server_that_does_not_report_its_cache_is_tried_once(caplog):
    model = causal()
    tried = []

    def generate(body: dict[str, Any]) -> web.Response:
        tried.append(body)
        return with_cache(model, None)(body)

    async with server(vllm(model), generate) as engine:
        for _ in range(3):
            assert len(await engine.score("p/0", IDS, 4)) == 3
    assert len(tried) == 1
    assert "--enable-prompt-tokens-details" in caplog.text


async def test_a_server_that_does_not_report_its_cache_is_named_once(caplog):
    model = causal()
    async with server(vllm(model), with_cache(model, None)) as engine:
        await asyncio.gather(*(engine.score("p/0", IDS, 4) for _ in range(8)))
    assert caplog.text.count("--enable-prompt-tokens-details") == 1


async def test_texts_of_one_sample_are_scored_together_as_alone(monkeypatch):
    texts = [(IDS, 4), ([*IDS[:3], 7, 7, 2, 1, 8], 5), (IDS[:3], 2), ([9, 9, 3], 1), (IDS[:5], 4)]
    local = LocalEngine(causal(), name="tiny")
    try:
        alone = [await local.score("p/0", ids, start) for ids, start in texts]
        together = await asyncio.gather(*(local.score("p/0", ids, start) for ids, start in texts))
        for found, expected in zip(together, alone, strict=True):
            assert_close(found, expected)
        monkeypatch.setattr("tessy.inference.local.scoring._LOGITS_BYTES", 1)  # one by one
        apart = await asyncio.gather(*(local.score("p/0", ids, start) for ids, start in texts))
        for found, expected in zip(apart, alone, strict=True):
            assert_close(found, expected)
    finally:
        await local.aclose()


async def test_a_failed_pass_fails_every_text_of_it():
    local = LocalEngine(causal(), name="tiny")
    try:
        results = await asyncio.gather(
            local.score("p/0", IDS), local.score("p/0", [1, 10**6, 2]), return_exceptions=True
        )
        assert [type(result) for result in results] == [EngineRefused] * 2
        assert len(await local.score("p/0", IDS)) == 6  # and the next pass works
    finally:
        await local.aclose()


async def scoring_while_a_pass_runs(
    local: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> tuple[asyncio.Task[list[ScoredToken]], threading.Event]:
    """Start a score, and return it with its pass blocked until the event is set."""
    entered, proceed = threading.Event(), threading.Event()
    score_together = scoring.score_together

    def slow(model: Any, requests: Any) -> Any:
        entered.set()
        assert proceed.wait(20)
        return score_together(model, requests)

    monkeypatch.setattr(scoring, "score_together", slow)
    first = asyncio.create_task(local.score("p/0", IDS))
    assert await asyncio.to_thread(entered.wait, 20)
    return first, proceed


async def test_a_text_that_comes_during_a_pass_is_scored_in_the_next_one(monkeypatch):
    local = LocalEngine(causal(), name="tiny")
    try:
        first, proceed = await scoring_while_a_pass_runs(local, monkeypatch)
        second = asyncio.create_task(local.score("p/0", IDS[:4]))
        await asyncio.sleep(0.01)
        proceed.set()
        assert_close(await second, (await first)[:3])
    finally:
        await local.aclose()


async def test_texts_are_scored_though_the_first_of_them_is_cancelled(monkeypatch):
    local = LocalEngine(causal(), name="tiny")
    try:
        whole = await local.score("p/0", IDS)
        first, proceed = await scoring_while_a_pass_runs(local, monkeypatch)
        second = asyncio.create_task(local.score("p/0", IDS[:4]))
        third = asyncio.create_task(local.score("p/0", IDS[:5]))
        await asyncio.sleep(0.01)
        first.cancel()
        proceed.set()
        assert_close(await second, whole[:3])
        assert_close(await third, whole[:4])
        assert first.cancelled()
        assert local._scorer._waiting == {}
    finally:
        await local.aclose()


async def test_a_text_of_one_token_has_no_scores():
    local = LocalEngine(causal(), name="tiny")
    try:
        assert await local.score("p/0", IDS[:1]) == []
    finally:
        await local.aclose()
    async with server(lambda body: web.Response(status=500)) as engine:
        assert await engine.score("p/0", IDS[:1]) == []


async def test_a_text_beyond_the_context_is_refused():
    local = LocalEngine(causal(), name="tiny")
    try:
        assert len(await local.score("p/0", [1] * 64)) == 63
        with pytest.raises(EngineRefused, match="65 tokens is longer than the context of 64"):
            await local.score("p/0", [1] * 65)
    finally:
        await local.aclose()


@pytest.mark.parametrize(
    "choice",
    [{"text": "x"}, {"prompt_logprobs": [None]}, {"prompt_logprobs": [None, *[{}] * 6]}],
)
async def test_a_server_without_prompt_logprobs_is_refused(choice):
    async with server(lambda body: web.json_response({"choices": [choice]})) as engine:
        with pytest.raises(EngineRefused, match="7 prompt tokens of p/0: this needs a vLLM server"):
            await engine.score("p/0", IDS)


async def test_a_scripted_engine_expects_what_its_script_writes():
    codec = ByteCodec()
    engine = ScriptedEngine(lambda text, seed: [b"abc"[len(text)]], prompt_tokens=1, codec=codec)
    first, second = await engine.score("p/0", [7, *b"ax"])
    assert (first.rank, first.logprob) == (1, math.log(0.9))
    assert (second.rank, second.logprob) == (2, math.log(0.1))


class Failing(ScriptedEngine):
    """Fails the first requests."""

    def __init__(self, *faults: Exception) -> None:
        super().__init__(lambda text, seed: [65], prompt_tokens=0, codec=ByteCodec())
        self.faults = list(faults)

    async def score(self, key, ids, start=1, *, top=1):
        if self.faults:
            raise self.faults.pop(0)
        return await super().score(key, ids, start, top=top)


async def test_a_pool_scores_again_after_a_failure():
    engine = Failing(EngineUnavailable("503"), EngineUnavailable("503"))

    async def sleep(seconds: float) -> None:
        pass

    async with ReplicaPool([engine], ["s0"], sleep=sleep) as pool:
        assert [token.rank for token in await pool.score("p/0", [65, 65])] == [1]
        engine.faults = [EngineRefused("no prompt logprobs")]
        with pytest.raises(SampleFailed, match="no prompt logprobs"):
            await pool.score("p/0", [65, 65])
