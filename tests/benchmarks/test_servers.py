"""The simulated servers of the benchmarks: texts, latencies and wire formats."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp.test_utils import TestServer
from benchmarks.latency import LastServed, Latency, SimulatedModel, Stream
from benchmarks.server_access import HttpServers
from benchmarks.simulated_pair import PairOptions, SimulatedPair
from benchmarks.simulated_server import MODEL, SimulatedServer, _parse
from benchmarks.words import CHARS_PER_WORD, END_THINKING, make_model_folder, words

from tessy.core.records import Message
from tessy.inference.base import Request, Sampling
from tessy.inference.http.engine import HttpEngine
from tessy.inference.http.wires.vllm_generate import GenerateWire
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import TokenIds, decode
from tests.support.engine_streams import iterate
from tests.support.model_server import eventually

Seen = list[tuple[float, int, str | None]]
EXACT = Latency(1.0, 0.5, jitter=0.0, straggler_share=0.0, tokenize_seconds=0.1)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return load_renderer(make_model_folder(tmp_path_factory.mktemp("words")))


def model(slots=8, **latency):
    server = SimulatedModel(EXACT, slots=slots, slow_down=2.0, seed=0, last_served=LastServed())
    server.share_samples_with(
        SimulatedModel(EXACT, slots=slots, slow_down=2.0, seed=0, last_served=server._last_served)
    )
    return server


def stream(times, clock, *, key="a", limit=3, token=7):
    def on_token(token_id, finish):
        times.append((clock(), token_id, finish))

    return Stream(key, lambda i: token, limit, frozenset({9}), on_token)


def drain(server):
    """Advance to each token's own time."""
    while (due := server.due()) is not None:
        yield due
        server.advance(due)


def test_a_reply_takes_the_time_of_prefill_and_tokens():
    seen: Seen = []
    server = model()
    server.submit(10.0, stream(seen, lambda: 0))
    times = list(drain(server))
    assert times == [13.0, 14.0, 15.0]  # (1 + 0.5) s and 0.5 s, slowed down by 2
    assert [finish for _, _, finish in seen] == [None, None, "length"]
    assert server.totals.generated == 3


def test_a_stop_token_ends_a_reply():
    seen: Seen = []
    server = model()
    server.submit(0.0, stream(seen, lambda: 0, token=9))
    list(drain(server))
    assert [entry[1:] for entry in seen] == [(9, "stop")]


def test_text_prompts_are_tokenized_one_at_a_time():
    server = model()
    for key in "ab":
        server.submit(0.0, stream([], lambda: 0, key=key, limit=1), text_tokens=50)
    assert list(drain(server)) == [13.0, 23.0]  # 50 * 0.1 s * 2 each, then 3 s


def test_requests_beyond_the_slots_are_queued():
    server = model(slots=1)
    for key in "ab":
        server.submit(0.0, stream([], lambda: 0, key=key, limit=1))
    assert list(drain(server)) == [3.0, 6.0]
    assert server.snapshot(6.0).busy_seconds == 6.0


def test_a_cancelled_request_stops_and_frees_its_slot():
    seen: Seen = []
    server = model(slots=1)
    first = stream(seen, lambda: 0, limit=100)
    server.submit(0.0, first)
    server.submit(0.0, stream([], lambda: 0, key="b", limit=1))
    server.advance(3.5)
    server.cancel(3.5, first)
    server.cancel(3.6, first)
    assert list(drain(server)) == [6.5]
    assert len(seen) == 1
    assert server.totals.aborted == 1


def test_idle_time_is_without_a_request_of_the_sample():
    server = model()
    server.submit(0.0, stream([], lambda: 0, limit=1))
    server.advance(3.0)
    server.submit(5.0, stream([], lambda: 0, key="new"))  # a new sample
    server.submit(7.0, stream([], lambda: 0, limit=1))
    assert server.totals.idle_seconds == 4.0


def test_a_full_server_is_not_idle():
    server = model(slots=1)
    server.submit(0.0, stream([], lambda: 0, limit=1))
    server.submit(0.0, stream([], lambda: 0, key="b", limit=2))
    list(drain(server))  # b from 3 to 7
    server.submit(8.0, stream([], lambda: 0, limit=1))
    assert server.totals.idle_seconds == 1.0


def test_words_are_one_token_each(renderer):
    codec = renderer.codec
    text = " ".join(words())
    ids = codec.encode(text)
    assert len(ids) == len(words())
    assert decode(codec, ids) == text
    assert {len(" " + word) for word in words()} == {CHARS_PER_WORD}


QUESTION = " ".join(words()[:60])


def prompts(renderer):
    ids = renderer.prompt_ids((Message(role="user", content=QUESTION),))
    return ids, decode(renderer.codec, ids)


async def replies(pair, prompt, *, limit=40):
    ids: list[int] = []
    ended = asyncio.get_running_loop().create_future()

    def on_token(token, finish):
        ids.append(token)
        if finish:
            ended.set_result(finish)

    pair.start("student", "k", prompt, limit=limit, ignore_eos=False, on_token=on_token)
    return ids, await ended


FAST = PairOptions(slots=4, slow_down=0.001, thinking_tokens=30, answer_tokens=5)


async def test_text_depends_on_the_place_alone(renderer):
    pair = SimulatedPair(renderer.codec, PairOptions(slots=4, slow_down=0.001, thinking_tokens=0))
    ids, _ = prompts(renderer)
    complete, finish = await replies(pair, ids)
    assert finish == "length"
    for cut in (1, 17, 39):
        rest, _ = await replies(pair, [*ids, *complete[:cut]], limit=40 - cut)
        assert complete[:cut] + rest == complete


async def test_thinking_and_answers_end(renderer):
    pair = SimulatedPair(renderer.codec, FAST)
    ids, _ = prompts(renderer)
    thinking, finish = await replies(pair, ids, limit=1000)
    assert (finish, thinking[-1]) == ("stop", renderer.codec.control[END_THINKING])
    prompt = [*ids, *thinking[:-1], *renderer.close_ids(" bada")]
    answer, finish = await replies(pair, prompt, limit=1000)
    assert finish == "stop"
    assert answer[-1] in renderer.answer_stop_ids
    assert len(answer) <= 4 * 5 + 1
    rest, _ = await replies(pair, [*prompt, *answer[:1]], limit=1000)
    assert len(rest) == len(answer) - 1


@pytest.fixture
async def served(renderer):
    pair = SimulatedPair(renderer.codec, FAST)
    server = TestServer(SimulatedServer(pair, "student").app)
    await server.start_server()
    yield pair, str(server.make_url("")).rstrip("/")
    await server.close()


@pytest.mark.parametrize("wire", ["generate", "completions", "text"])
async def test_wire_formats_return_the_same_text(served, renderer, wire):
    pair, url = served
    ids, _ = prompts(renderer)
    expected, _ = await replies(pair, ids, limit=12)
    engine = HttpEngine(url, MODEL, renderer.codec, wire=wire)
    try:
        assert (await engine.probe()).capacity_tokens
        request = Request(
            "k/0", TokenIds(ids), Sampling(), 12, tuple(renderer.thinking_stop_ids), 1
        )
        got = [token async for chunk in iterate(engine, request) for token in chunk.ids]
    finally:
        await engine.aclose()
    if wire == "text":  # text prompts have other token counts
        assert len(got) == 12
    else:
        assert got == [i for i in expected if i not in renderer.thinking_stop_ids]


async def test_closing_a_stream_aborts_it(renderer):
    pair = SimulatedPair(renderer.codec, PairOptions(slots=1, thinking_tokens=0))
    server = TestServer(SimulatedServer(pair, "student").app)
    await server.start_server()
    ids, _ = prompts(renderer)
    engine = HttpEngine(str(server.make_url("")), MODEL, renderer.codec, wire="generate")
    try:
        chunks = iterate(engine, Request("k/0", TokenIds(ids), Sampling(), 10**6, (), 1))
        async for _ in chunks:
            break
        assert pair.totals()["student"].aborted == 0
        await chunks.aclose()
        await eventually(lambda: pair.totals()["student"].aborted > 0)
    finally:
        await engine.aclose()
        await server.close()
    assert 0 < pair.totals()["student"].generated < 10_000


async def test_other_clients_receive_complete_replies(served, renderer):
    _, url = served
    servers = HttpServers({"student": url, "teacher": url})
    try:
        ids, text = prompts(renderer)
        for prompt in (ids, text):
            reply = await servers.complete("student", "k", prompt, max_tokens=8, ignore_eos=True)
            assert (reply.tokens, reply.ended) == (8, False)
            assert len(reply.text) == 8 * CHARS_PER_WORD or END_THINKING in reply.text
        totals, cpu = await servers.totals()
        assert totals["student"].generated == 16
        assert cpu["servers"] > 0
    finally:
        await servers.aclose()


@pytest.mark.parametrize("before", [1, 39, 40, 9_000])
@pytest.mark.parametrize("answered", [None, 0, 1, 5, 4_014, 4_015, 4_016])
def test_ids_are_read_equally_as_numbers_and_as_json(renderer, before, answered):
    pair = SimulatedPair(renderer.codec, PairOptions(slots=1))
    ids = renderer.codec.encode(" ".join(words()[:9]) * 1_000)[:before]
    if answered is not None:
        end = renderer.codec.control[END_THINKING]
        ids = [*ids, end, *ids[:1] * answered]
    assert pair._read(json.dumps(ids, separators=(",", ":"))[1:-1].encode()) == pair._read(ids)


def test_only_ids_at_the_end_of_a_request_are_not_parsed():
    assert _parse(b'{"sampling_params": {"stop": [1]}, "token_ids":[1,2]}')["token_ids"] == b"1,2"
    for body in ({"token_ids": [1, 2]}, {"token_ids": [], "n": [1]}, {"prompt": "[", "stop": [3]}):
        assert _parse(json.dumps(body).encode()) == body
    # The client sends this form; otherwise the servers would parse all ids.
    request = Request("a/0", TokenIds([1, 2]), Sampling(), 9, (3,), 4)
    assert _parse(GenerateWire(MODEL).body(request, stream=True))["token_ids"] == b"1,2"
