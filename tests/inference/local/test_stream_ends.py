"""How a stream of the in-process engine ends: stop ids, limits, closed sinks, failures."""

import asyncio
import threading
from collections.abc import Callable
from typing import NoReturn

import pytest
import torch

from tessy.core.errors import EngineRefused, EngineUnavailable
from tessy.inference.base import Chunk, ChunkSink
from tessy.inference.local.engine import LocalEngine
from tests.support.engine_streams import iterate
from tests.support.local_engine import collect, ids_of, request, until
from tests.support.tiny_causal import CONTEXT, GREEDY, VOCABULARY, WARM, model_of, plain_ids


async def test_a_stop_id_ends_the_stream_and_is_not_delivered(engine):
    prompt = (1, 2, 3)
    free = await ids_of(engine, request(prompt=prompt, count=12))
    stop = free[5]
    got, last = await collect(engine, request(prompt=prompt, count=12, stop=[stop, 63]))
    assert got == free[: free.index(stop)]
    assert (last.finish, last.stop_id) == ("stop", stop)


async def test_the_eos_id_of_the_model_ends_the_stream():
    model = model_of("llama")
    free = plain_ids(model, (1, 2, 3), 12)
    model.generation_config.eos_token_id = [free[4], free[7]]
    try:
        served = LocalEngine(model, name="tiny")
        got, last = await collect(served, request(count=12))
        await served.aclose()
    finally:
        model.generation_config.eos_token_id = None
    assert got == free[: min(free.index(free[4]), free.index(free[7]))]
    assert last.finish == "stop"
    assert last.stop_id in (free[4], free[7])


async def test_the_context_ends_the_stream(engine):
    got, last = await collect(engine, request(prompt=[1] * (CONTEXT - 4), count=100))
    assert len(got) == 4
    assert last.finish == "length"
    assert await collect(engine, request(prompt=[1] * CONTEXT)) == ([], Chunk((), "length"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": []}, "the prompt is empty"),
        ({"count": 0}, "max_tokens is 0"),
        ({"prompt": [1] * (CONTEXT + 1)}, "161 tokens, the context 160"),
        ({"prompt": [1, VOCABULARY]}, "ids from 1 to 64, the model has 0 to 63"),
        ({"prompt": [1, -1]}, "ids from -1 to 1"),
    ],
)
async def test_a_request_that_cannot_be_served_is_refused(engine, bad, message):
    with pytest.raises(EngineRefused, match=message):
        await collect(engine, request(**bad))
    assert await ids_of(engine, request(count=2)) == plain_ids(model_of("qwen3"), (1, 2, 3), 2)


async def test_closing_a_stream_stops_the_decoding(engine):
    worker = engine._worker
    stream = iterate(engine, request(count=150))
    first = await anext(stream)
    await stream.aclose()
    await until(lambda: not worker._active)
    steps = worker._steps
    await asyncio.sleep(0.02)
    assert worker._steps == steps
    prompt = (1, 2, 3, *first.ids)
    assert await ids_of(engine, request(prompt=prompt, count=4)) == plain_ids(
        model_of("qwen3"), prompt, 4
    )


async def test_a_sink_closed_by_its_own_chunk_ends_the_stream_before_the_next_step(engine):
    received: list[int] = []
    steps = threading.Semaphore(1)  # each chunk allows one more
    decoder = engine._worker._decoder
    forward = decoder.forward
    calls: list[object] = []

    def wait_and_forward(members):
        steps.acquire()
        calls.append(members)
        return forward(members)

    def take(chunk: Chunk) -> None:
        received.extend(chunk.ids)
        if len(received) == 3:
            sink.close()
        else:
            steps.release()

    decoder.forward = wait_and_forward
    sink = ChunkSink(take)
    await engine.stream(request(count=150), sink)
    steps.release()  # the worker may have begun a step before the sink was closed
    await until(lambda: not engine._worker._active)
    assert received == plain_ids(model_of("qwen3"), (1, 2, 3), 3)
    assert len(calls) <= 4


async def test_a_sink_that_raises_fails_its_own_stream_only(engine):
    def fail(_chunk: Chunk) -> None:
        raise ValueError("of the caller")

    other = asyncio.create_task(ids_of(engine, request("b", count=12)))
    with pytest.raises(ValueError, match="of the caller"):
        await engine.stream(request("a", count=150), ChunkSink(fail))
    assert await other == plain_ids(model_of("qwen3"), (1, 2, 3), 12)
    await until(lambda: not engine._worker._active)


async def test_cancelling_the_reader_closes_the_stream(engine):
    task = asyncio.create_task(collect(engine, request(count=150)))
    await until(lambda: engine._worker._active)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not engine._worker._active)
    assert await ids_of(engine, request("b", count=2))


async def test_a_failing_model_fails_the_streams_and_the_next_ones_work(engine, monkeypatch):
    decoder = engine._worker._decoder
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", _raise(ValueError("no such kernel")))
    results = await asyncio.gather(
        *(collect(engine, request(f"k{i}")) for i in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, EngineRefused) for result in results)
    assert all("no such kernel" in str(result) for result in results)
    monkeypatch.setattr(decoder, "forward", _raise(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(EngineUnavailable, match="ran out of memory"):
        await collect(engine, request("k0"))
    monkeypatch.setattr(decoder, "forward", forward)
    assert await ids_of(engine, request("k0")) == plain_ids(model_of("qwen3"), (1, 2, 3), 12)


def _raise(error: Exception) -> Callable[..., NoReturn]:
    def forward(_members: object) -> NoReturn:
        raise error

    return forward


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
async def test_logits_that_are_not_numbers_are_refused(engine, monkeypatch, sampling):
    decoder = engine._worker._decoder
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda members: forward(members) * torch.nan)
    with pytest.raises(EngineRefused, match="not numbers"):
        await collect(engine, request(sampling=sampling))


async def test_closing_the_engine_ends_open_streams_and_the_thread():
    served = LocalEngine(model_of("qwen3"), name="tiny", max_batch=1)
    tasks = [asyncio.create_task(collect(served, request(f"k{i}", count=150))) for i in range(3)]
    await until(lambda: served._worker._active)
    await served.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, EngineUnavailable) for result in results)
    assert not served._worker._thread.is_alive()
    with pytest.raises(EngineUnavailable, match="was closed"):
        await collect(served, request())
