"""HttpEngine: requests and replies in each wire format, and closing of streams."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tessy.core.errors import (
    EngineRefused,
)
from tessy.inference.base import Request, Sampling
from tessy.inference.scripted import END_THINKING, EOS, OTHER_CONTROL
from tessy.tokenization.token_ids import TokenIds
from tests.support.engine_requests import (
    CODEC,
    EVERY_WIRE,
    STREAMING_AND_NOT,
    WIRES,
    collect,
    make_request,
    text_of,
)
from tests.support.engine_streams import iterate
from tests.support.model_server import (
    PLAIN_OPENAI,
    SGLANG,
    TEXT_ONLY,
    FakeServer,
    Fault,
    eventually,
    writes,
)

# -- replies -------------------------------------------------------------------------------------


@STREAMING_AND_NOT
@EVERY_WIRE
async def test_every_wire_gives_the_same_ids_and_a_separate_stop_id(connect, wire, streaming):
    async with FakeServer(writes("naïve ☃ end", END_THINKING), can=WIRES[wire]) as server:
        engine = connect(server.url, streaming=streaming)
        info = await engine.probe()
        chunks = await collect(engine, make_request())
    assert info.mode == wire
    assert info.streaming is streaming
    assert text_of(chunks) == "naïve ☃ end"
    assert [chunk.finish for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1].finish, chunks[-1].stop_id) == ("stop", END_THINKING)
    assert all(chunk.ids for chunk in chunks[:-1])
    assert streaming or len(chunks) == 1


@EVERY_WIRE
async def test_the_end_of_the_turn_is_a_stop(connect, wire):
    async with FakeServer(writes("abc"), can=WIRES[wire]) as server:
        engine = connect(server.url)
        chunks = await collect(engine, make_request())
    assert text_of(chunks) == "abc"
    assert chunks[-1].finish == "stop"
    assert chunks[-1].stop_id == (None if wire == "text" else EOS)


@EVERY_WIRE
async def test_an_eos_that_the_server_does_not_report_is_detected_in_the_ids(connect, wire):
    """vLLM reports no stop reason at EOS; only the last id shows it, and text does not."""
    request = Request("k", TokenIds([65]), Sampling(), 64, (END_THINKING,), 0)
    async with FakeServer(writes("abc"), can=WIRES[wire]) as server:
        engine = connect(server.url)
        chunks = await collect(engine, request)
    assert text_of(chunks) == "abc"
    assert chunks[-1].finish == "stop"
    assert chunks[-1].stop_id == (None if wire == "text" else EOS)


@EVERY_WIRE
async def test_max_tokens_end_with_length(connect, wire):
    async with FakeServer(writes("abcdefgh"), can=WIRES[wire]) as server:
        engine = connect(server.url)
        chunks = await collect(engine, make_request(max_tokens=5))
    assert text_of(chunks) == "abcde"
    assert (chunks[-1].finish, chunks[-1].stop_id) == ("length", None)


async def test_sglang_deltas_are_read_like_its_cumulative_ids(connect):
    async with FakeServer(writes("abcdef"), can=SGLANG, incremental=True) as server:
        engine = connect(server.url)
        chunks = await collect(engine, make_request())
    assert text_of(chunks) == "abcdef"


async def test_tokens_that_have_arrived_are_one_chunk(connect):
    """A slow reader receives few large chunks, not one per token."""
    async with FakeServer(writes("x" * 200)) as server:
        engine = connect(server.url)
        chunks = []
        async for chunk in iterate(engine, make_request(max_tokens=1000)):
            chunks.append(chunk)
            await eventually(lambda: server.busy == 0)
    assert text_of(chunks) == "x" * 200
    assert len(chunks) <= 3


async def test_control_tokens_that_do_not_stop_stay_in_the_ids(connect):
    async with FakeServer(writes("ab", OTHER_CONTROL, 99), can=TEXT_ONLY) as server:
        engine = connect(server.url)
        chunks = await collect(engine, make_request())
    assert [i for chunk in chunks for i in chunk.ids] == [97, 98, OTHER_CONTROL, 99]


async def test_the_text_wire_ends_at_a_stop_id_that_the_server_ignores(connect):
    """The server continues after the stop, which is detected in the text."""
    request = Request("k", TokenIds([65]), Sampling(), 64, (OTHER_CONTROL,), 0)
    script = writes("ab", OTHER_CONTROL, *b"never read")
    async with FakeServer(script, can=PLAIN_OPENAI) as server:
        engine = connect(server.url)
        await engine.probe()
        chunks = await collect(engine, request)
    assert text_of(chunks) == "ab"
    assert (chunks[-1].finish, chunks[-1].stop_id) == ("stop", OTHER_CONTROL)


# -- requests ------------------------------------------------------------------------------------


async def test_generate_receives_ids_sampling_values_seed_and_sample(connect):
    async with FakeServer(writes("abc")) as server:
        engine = connect(server.url + "/v1/", api_key="secret")
        await collect(engine, make_request(seed=2**70 + 5, key="näme 1/0\n"))
        seen = server.seen[-1]
    assert seen.path == "/inference/v1/generate"
    assert seen.headers["X-Session-ID"] == "n%C3%A4me%201/0%0A"
    assert seen.headers["Authorization"] == "Bearer secret"
    assert seen.body["token_ids"] == [*CODEC.encode("Q: what?"), OTHER_CONTROL]
    assert seen.body["stream"] is True
    assert seen.body["sampling_params"] == {
        "max_tokens": 64,
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 30,
        "min_p": 0.01,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": False,
        "min_tokens": 0,
        "stop_token_ids": [END_THINKING, EOS],
        "seed": 5,
        "detokenize": False,
    }


@EVERY_WIRE
async def test_every_server_default_is_overridden(connect, wire):
    async with FakeServer(writes("abc"), can=WIRES[wire]) as server:
        engine = connect(server.url)
        await collect(engine, Request("k", TokenIds([65]), Sampling(top_k=0), 9, (EOS,), 3))
        body = server.seen[-1].body
    sent = body.get("sampling_params", body)
    assert sent["top_k"] == -1
    assert (sent["temperature"], sent["top_p"], sent["min_p"]) == (0.7, 0.8, 0.0)
    assert sent["repetition_penalty"] == 1.0
    assert 3 in (sent.get("seed"), sent.get("sampling_seed"))
    assert 9 in (sent.get("max_tokens"), sent.get("max_new_tokens"))


async def test_the_text_wire_spells_out_control_tokens(connect):
    async with FakeServer(writes("abc"), can=TEXT_ONLY) as server:
        engine = connect(server.url)
        await collect(engine, make_request())
        body = server.seen[-1].body
    assert body["prompt"] == "Q: what?<mark>"
    assert not {"stop", "stop_token_ids"} & set(body)
    assert body["add_special_tokens"] is False
    assert body["skip_special_tokens"] is False
    assert body["spaces_between_special_tokens"] is False


async def test_plain_openai_servers_get_only_fields_of_the_openai_api(connect):
    async with FakeServer(writes("abc", END_THINKING), can=PLAIN_OPENAI) as server:
        engine = connect(server.url)
        info = await engine.probe()
        chunks = await collect(engine, make_request())
    assert text_of(chunks) == "abc"
    assert (chunks[-1].finish, chunks[-1].stop_id) == ("stop", END_THINKING)
    assert any("top_k" in note for note in info.notes)


async def test_max_tokens_fit_into_the_context_and_a_full_context_is_refused(connect):
    async with FakeServer(writes("abc"), context=20) as server:
        engine = connect(server.url)
        await collect(engine, make_request(max_tokens=64))
        assert server.seen[-1].body["sampling_params"]["max_tokens"] == 11
        with pytest.raises(EngineRefused, match="20 tokens"):
            await collect(engine, make_request("Q" * 19))


async def test_data_parallel_engines_get_a_rank_that_stays_with_the_sample(connect):
    line = 'vllm:cache_config_info{{enable_prefix_caching="True",engine="{}",{}}} 1.0\n'
    metrics = "".join(line.format(i, 'kv_cache_size_tokens="1000"') for i in range(4))
    async with FakeServer(writes("abc"), metrics=metrics) as server:
        engine = connect(server.url)
        assert (await engine.probe()).capacity_tokens == 4000
        for key in [f"p{i % 20}/0" for i in range(40)]:
            await collect(engine, make_request(key=key))
        ranks = [seen.headers["X-data-parallel-rank"] for seen in server.seen[-40:]]
    assert ranks[:20] == ranks[20:]
    assert set(ranks) == {"0", "1", "2", "3"}


async def test_a_very_long_prompt_and_key_arrive_whole(connect):
    async with FakeServer(writes("abc"), context=None) as server:
        engine = connect(server.url)
        request = Request("k" * 9000, TokenIds([123456] * 300_000), Sampling(), 9, (EOS,), 3)
        await collect(engine, request)
        seen = server.seen[-1]
    assert seen.body["token_ids"] == [123456] * 300_000
    assert len(seen.headers["X-Session-ID"]) == 64


# -- aborts and connections ----------------------------------------------------------------------


@EVERY_WIRE
async def test_closing_a_stream_ends_the_generation(connect, wire):
    script = writes("x" * 1000)
    async with FakeServer(script, can=WIRES[wire], token_seconds=0.005) as server:
        engine = connect(server.url)
        await engine.probe()
        async with aclosing(iterate(engine, make_request(max_tokens=1000))) as chunks:
            async for chunk in chunks:
                assert chunk.ids
                break
        await eventually(lambda: server.aborted == 1)
        assert server.written < 200


async def test_cancelling_the_task_ends_the_generation(connect):
    async with FakeServer(writes("x" * 1000), token_seconds=0.005) as server:
        engine = connect(server.url)
        await engine.probe()
        task = asyncio.create_task(collect(engine, make_request(max_tokens=1000)))
        await eventually(lambda: server.written > 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.aborted == 1)


async def test_finished_streams_leave_their_connection_for_the_next(connect):
    async with FakeServer(writes("abc")) as server:
        engine = connect(server.url)
        await engine.probe()
        before = server.connections
        for _ in range(5):
            await collect(engine, make_request())
    assert server.connections == before
    assert server.aborted == 0


async def test_many_streams_at_once(connect):
    async with FakeServer(lambda prompt, seed: [*b"%d" % seed]) as server:
        engine = connect(server.url)
        replies = await asyncio.gather(*[collect(engine, make_request(seed=i)) for i in range(200)])
    assert [text_of(reply) for reply in replies] == [str(i) for i in range(200)]


async def test_all_requested_streams_are_open_at_the_same_time(connect):
    async with FakeServer(writes("x")) as server:
        engine = connect(server.url)
        await engine.probe()
        server.faults = [Fault("hang")] * 150
        tasks = [asyncio.create_task(collect(engine, make_request(seed=i))) for i in range(150)]
        await eventually(lambda: server.busy == 150)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
