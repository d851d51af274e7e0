"""HttpEngine on a real vLLM: its endpoints, and the contract of a stream."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from typing import Any

import pytest

from tessy.core.errors import EngineMisconfigured, EngineRefused, EngineUnavailable
from tessy.inference.base import Chunk, Request, Sampling
from tessy.inference.http.engine import HttpEngine
from tessy.inference.http.wires import vllm_generate as wire_generate
from tessy.inference.http.wires.base import neutral_sampling
from tessy.lab.bundled import demo_problems, student_path, teacher_path
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import TokenIds, decode
from tests.support.engine_streams import iterate
from tests.support.model_server import eventually
from tests.vllm.servers import BLOCK_TOKENS, CONTEXT_TOKENS, Servers, VllmServer

pytestmark = pytest.mark.vllm

GREEDY = Sampling(temperature=0.0)
WILD = Sampling(temperature=2.0, top_p=1.0, top_k=0)
RENDERER = load_renderer(student_path())
CODEC = RENDERER.codec


@pytest.fixture
async def connect():
    """Return a function that creates engines on a server; they are closed after the test."""
    engines: list[HttpEngine] = []

    def make(server: VllmServer, **options: Any) -> HttpEngine:
        engines.append(HttpEngine(server.url, server.name, CODEC, **options))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.aclose()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let streams end only by length: the models would end their turn before an interruption."""

    def without_end(sent: Request) -> dict[str, Any]:
        return neutral_sampling(sent) | {"ignore_eos": True}

    monkeypatch.setattr(wire_generate, "neutral_sampling", without_end)


def question(number: int) -> list[int]:
    return RENDERER.prompt_ids(demo_problems(number + 1, seed=1)[number].messages)


def request(
    prompt: list[int],
    sampling: Sampling = GREEDY,
    *,
    max_tokens: int = 48,
    stop_ids: tuple[int, ...] = (),
    seed: int = 1,
) -> Request:
    return Request("p/0", TokenIds(prompt), sampling, max_tokens, stop_ids, seed)


async def collect(engine: HttpEngine, sent: Request) -> tuple[list[int], Chunk]:
    """Return all ids, and the last chunk without its ids, whose number is random."""
    chunks = [chunk async for chunk in iterate(engine, sent)]
    return [token_id for chunk in chunks for token_id in chunk.ids], chunks[-1]._replace(ids=())


async def begin(engine: HttpEngine, sent: Request, count: int) -> list[int]:
    """Return the first ``count`` ids or a few more, and close the stream."""
    ids: list[int] = []
    async with aclosing(iterate(engine, sent)) as chunks:
        async for chunk in chunks:
            ids += chunk.ids
            if len(ids) >= count:
                break
    return ids


async def idle(server: VllmServer) -> None:
    await eventually(lambda: server.metric("vllm:num_requests_running") == 0)


async def test_probe_finds_the_cheapest_endpoint_the_context_and_the_cache(
    servers: Servers, connect
):
    info = await connect(servers.student).probe()
    said = re.search(r"KV cache size: ([\d,]+) tokens", servers.student.log.read_text())
    assert said is not None
    assert info.capacity_tokens == int(said[1].replace(",", ""))
    assert (info.mode, info.model) == ("generate", "student")
    assert info.context_tokens == CONTEXT_TOKENS
    assert info.prefix_caching is True
    assert info.streaming is True
    assert info.notes == ()


async def test_every_wire_gives_the_same_ids(servers: Servers, connect):
    sent = request(question(0), max_tokens=40)
    replies = {}
    for wire in ("generate", "completions"):
        for streaming in (True, False):
            engine = connect(servers.student, wire=wire, streaming=streaming)
            replies[wire, streaming] = await collect(engine, sent)
    ids, last = replies["generate", True]
    assert len(ids) == 40
    assert last.finish == "length"
    assert all(reply[0] == ids and reply[1].finish == "length" for reply in replies.values())


async def test_the_text_wire_gives_the_same_text(servers: Servers, connect):
    sent = request(question(0), max_tokens=40)
    ids, _ = await collect(connect(servers.student), sent)
    engine = connect(servers.student, wire="text")
    text_ids, last = await collect(engine, sent)
    assert (await engine.probe()).mode == "text"
    assert decode(CODEC, text_ids) == decode(CODEC, ids)
    assert last.finish == "length"


@pytest.mark.parametrize("wire", ["generate", "completions"])
async def test_a_stop_id_is_reported_and_removed_from_the_ids(servers: Servers, connect, wire):
    """Use an id that the model generates in mid-text as the stop id."""
    sent = request(question(1), max_tokens=40)
    ids, _ = await collect(connect(servers.student), sent)
    stop = next(i for n, i in enumerate(ids) if n >= 10 and i not in ids[:n])
    stopped = request(question(1), max_tokens=40, stop_ids=(stop,))
    got, last = await collect(connect(servers.student, wire=wire), stopped)
    assert got == ids[: ids.index(stop)]
    assert (last.finish, last.stop_id) == ("stop", stop)


@pytest.mark.parametrize("wire", ["generate", "completions", "text"])
async def test_thinking_ends_with_its_marker_and_the_answer_with_the_turn(
    servers: Servers, connect, wire
):
    engine = connect(servers.student, wire=wire)
    prompt = question(2)
    stops = tuple(sorted(RENDERER.thinking_stop_ids))
    thinking, last = await collect(engine, request(prompt, max_tokens=2000, stop_ids=stops))
    assert (last.finish, last.stop_id) == ("stop", stops[0])
    assert not CODEC.control_ids & set(thinking)
    answering = prompt + thinking + RENDERER.close_ids("")
    answer, last = await collect(engine, request(answering, max_tokens=200))
    assert answer
    assert last.finish == "stop"
    # Text does not contain the end of the turn, and vLLM reports no stop reason for it.
    assert last.stop_id in (RENDERER.answer_stop_ids if wire != "text" else {None})


async def test_a_seed_fixes_the_draw_and_another_seed_another(servers: Servers, connect):
    engine = connect(servers.student)
    draws = [
        await collect(engine, request(question(3), WILD, seed=seed, max_tokens=30))
        for seed in (5, 5, 6, 2**80 + 5)
    ]
    assert draws[0] == draws[1] == draws[3]
    assert draws[2] != draws[0]


@pytest.mark.usefixtures("endless")
async def test_closing_a_stream_ends_the_generation(servers: Servers, connect):
    """Of eight long streams closed at their fifth token, few further tokens are generated."""
    engine = connect(servers.student)
    sent = [request(question(i), WILD, seed=i, max_tokens=3000) for i in range(8)]
    await idle(servers.student)
    before = servers.student.metric("vllm:generation_tokens_total")
    await asyncio.gather(*[begin(engine, one, 5) for one in sent])
    await idle(servers.student)
    drawn = servers.student.metric("vllm:generation_tokens_total") - before
    assert drawn < 8 * 3000 / 3


@pytest.mark.usefixtures("endless")
async def test_tokens_of_an_aborted_stream_stay_cached(servers: Servers, connect):
    engine = connect(servers.student)
    prompt = question(4)
    read = await begin(engine, request(prompt, WILD, max_tokens=3000), 100)
    await idle(servers.student)
    before = servers.student.metric("vllm:prefix_cache_hits_total")
    await collect(engine, request(prompt + read, max_tokens=1))
    hits = servers.student.metric("vllm:prefix_cache_hits_total") - before
    assert hits == (len(prompt + read) - 1) // BLOCK_TOKENS * BLOCK_TOKENS


async def test_a_wrong_model_name_is_refused_with_the_right_one(servers: Servers, connect):
    engine = HttpEngine(servers.student.url, "stvdent", CODEC)
    with pytest.raises(EngineMisconfigured, match="it serves 'student'"):
        await engine.probe()
    await engine.aclose()


@pytest.mark.parametrize("wire", ["generate", "completions"])
async def test_an_invalid_request_is_refused(servers: Servers, connect, wire):
    engine = connect(servers.student, wire=wire)
    with pytest.raises(EngineRefused, match="out of vocabulary"):
        await collect(engine, request([10**6]))
    with pytest.raises(EngineRefused, match=str(CONTEXT_TOKENS)):
        await collect(engine, request([65] * CONTEXT_TOKENS))
    ids, last = await collect(engine, request([65] * (CONTEXT_TOKENS - 3), WILD, max_tokens=99))
    assert len(ids) <= 3
    assert last.finish is not None


TEACHER_PROMPT = [65, 66, 67]


@pytest.fixture
async def replica(servers: Servers):
    """An engine on the teacher's second replica."""
    codec = load_renderer(teacher_path()).codec
    engine = HttpEngine(servers.teacher_b.url, servers.teacher_b.name, codec)
    yield engine
    await engine.aclose()


@pytest.mark.usefixtures("endless")
async def test_a_crash_in_mid_stream_is_a_temporary_failure(servers: Servers, replica: HttpEngine):
    stream = iterate(replica, request(TEACHER_PROMPT, WILD, max_tokens=3000))
    assert (await anext(stream)).ids
    servers.teacher_b.kill()
    with pytest.raises(EngineUnavailable, match=servers.teacher_b.url):
        async for _ in stream:
            pass
    assert await replica.health() is False


async def test_a_restarted_replica_serves_at_the_same_address(replica: HttpEngine):
    assert await replica.health() is True
    ids, last = await collect(replica, request(TEACHER_PROMPT, WILD))
    assert ids
    assert last.finish is not None
