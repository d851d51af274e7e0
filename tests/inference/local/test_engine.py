import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessy.core.errors import EngineRefused, EngineUnavailable, ModelError
from tessy.inference.base import Chunk, ChunkSink, Request, Sampling
from tessy.inference.local.engine import LocalEngine
from tessy.tokenization.token_ids import TokenIds
from tests.support.engine_streams import iterate
from tests.support.tiny_causal import CONTEXT, GREEDY, VOCABULARY, WARM, model_of, plain_ids


def request(
    key: str = "a",
    prompt: Sequence[int] = (1, 2, 3),
    count: int = 12,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    stop: Sequence[int] = (),
) -> Request:
    return Request(key, TokenIds(prompt), sampling, count, tuple(stop), seed)


async def until(condition: Callable[[], object]) -> None:
    """Poll until the worker thread has reached ``condition``."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def collect(engine: LocalEngine, sent: Request) -> tuple[list[int], Chunk]:
    """Return all ids of a stream, and its last chunk."""
    ids: list[int] = []
    last = Chunk(())
    async with aclosing(iterate(engine, sent)) as stream:
        async for chunk in stream:
            ids += chunk.ids
            last = chunk
    return ids, last


async def ids_of(engine: LocalEngine, sent: Request) -> list[int]:
    return (await collect(engine, sent))[0]


@pytest.fixture
async def engine():
    served = LocalEngine(model_of("qwen3"), name="tiny")
    yield served
    await served.aclose()


def test_importing_the_engine_loads_neither_torch_nor_transformers():
    code = (
        "import sys, tessy.inference.local.engine\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_the_message_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tessy.inference.local.engine import LocalEngine\n"
        "from tessy.core.errors import ModelError\n"
        "try: LocalEngine.load('somewhere')\n"
        "except ModelError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 'pip install "tessy[torch]"' in done.stdout


# -- the ids are the model's own


@pytest.mark.parametrize("family", ["qwen3", "llama", "mistral", "gpt_oss"])
async def test_greedy_ids_are_those_of_generate(family):
    model = model_of(family)
    prompt = [5, 9, 2, 31, 7, 8, 40, 3, 3, 11]
    served = LocalEngine(model, name=family)
    try:
        got, last = await collect(served, request(prompt=prompt, count=24))
    finally:
        await served.aclose()
    generate: Any = model.generate  # untyped
    whole = generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
    assert got == whole[0, len(prompt) :].tolist()
    assert last.finish == "length"


@pytest.mark.parametrize("family", ["qwen3", "mistral", "gpt_oss"])
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
async def test_streams_decoded_together_have_the_ids_of_each_alone(family, sampling):
    model = model_of(family)
    sent = [
        request(f"k{i}", [(3 * i + j) % VOCABULARY for j in range(2 + 5 * i)], 10, sampling, seed=i)
        for i in range(7)
    ]
    expected = [plain_ids(model, item.prompt.ids, 10, sampling, item.seed) for item in sent]
    served = LocalEngine(model, name=family, max_batch=5)
    try:
        together = await asyncio.gather(*(ids_of(served, item) for item in sent))
        alone = [await ids_of(served, item) for item in sent]
    finally:
        await served.aclose()
    assert together == expected
    assert alone == expected


PROMPTS = st.lists(st.integers(0, 3), min_size=1, max_size=14)
ASKED = st.tuples(st.sampled_from("ab"), PROMPTS, st.integers(1, 4), st.booleans())


@settings(max_examples=12, deadline=None)
@given(rounds=st.lists(st.lists(ASKED, min_size=1, max_size=3), min_size=1, max_size=4))
@pytest.mark.parametrize("family", ["qwen3", "gpt_oss"])
async def test_any_history_of_a_sample_leaves_its_ids_unchanged(family, rounds):
    """Prompts of four ids often share prefixes: growth, rollback, two streams of one sample."""
    model = model_of(family)
    served = LocalEngine(model, name=family, cache_tokens=60)
    try:
        for sent in rounds:
            requests = [
                request(key, prompt, count, WARM if warm else GREEDY, seed=5)
                for key, prompt, count, warm in sent
            ]
            got = await asyncio.gather(*(ids_of(served, item) for item in requests))
            assert got == [
                plain_ids(model, item.prompt.ids, item.max_tokens, item.sampling, 5)
                for item in requests
            ]
    finally:
        await served.aclose()


async def test_the_shared_prefix_of_a_longer_prompt_is_not_read_again(engine):
    read: list[int] = []
    decoder = engine._worker._decoder
    forward = decoder.forward

    def counting(members):
        read.extend(len(new) for _, new in members)
        return forward(members)

    decoder.forward = counting
    prompt = list(range(1, 21))
    first = await ids_of(engine, request(prompt=prompt, count=6))
    assert read == [20, 1, 1, 1, 1, 1]
    read.clear()
    await ids_of(engine, request(prompt=[*prompt, *first[:3], 60, 61], count=1))
    assert read == [2]  # three kept ids, two new ones, three rolled back
    read.clear()
    engine.release("a")
    await ids_of(engine, request(prompt=prompt, count=1))
    assert read == [20]


async def test_a_full_cache_costs_time_not_ids():
    """With memory for one and a half samples, idle ones are dropped and active ones wait."""
    model = model_of("qwen3")
    sent = [request(f"k{i}", [i + 1] * 20, 12) for i in range(4)]
    served = LocalEngine(model, name="tiny", cache_tokens=50)
    try:
        got = await asyncio.gather(*(ids_of(served, item) for item in sent))
        again = await asyncio.gather(*(ids_of(served, item) for item in reversed(sent)))
        with pytest.raises(EngineRefused, match="do not fit into a cache of 50 tokens"):
            await ids_of(served, request(prompt=[1] * 51))
    finally:
        await served.aclose()
    assert got == [plain_ids(model, item.prompt.ids, 12) for item in sent]
    assert again == got[::-1]


async def test_long_prompts_are_read_in_parts(engine, monkeypatch):
    expected = plain_ids(model_of("qwen3"), list(range(50)), 5)
    monkeypatch.setattr("tessy.inference.local.batcher.PREFILL_TOKENS", 8)
    sent = request("b", [1, 2, 3], 20)
    got = await asyncio.gather(
        ids_of(engine, request(prompt=list(range(50)), count=5)), ids_of(engine, sent)
    )
    assert list(got) == [expected, plain_ids(model_of("qwen3"), [1, 2, 3], 20)]


# -- how a stream ends


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

    failing = engine.stream(request("a", count=150), ChunkSink(fail))
    other = ids_of(engine, request("b", count=12))
    failed, got = await asyncio.gather(failing, other, return_exceptions=True)
    assert repr(failed) == "ValueError('of the caller')"
    assert got == plain_ids(model_of("qwen3"), (1, 2, 3), 12)
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


# -- loading


async def test_a_saved_model_is_loaded_and_described(tmp_path):
    model_of("qwen3").save_pretrained(tmp_path)
    served = LocalEngine.load(tmp_path, device="cpu")
    try:
        info = await served.probe()
        got = await ids_of(served, request())
    finally:
        await served.aclose()
    assert (info.model, info.mode, info.context_tokens) == (str(tmp_path), "local", CONTEXT)
    assert info.prefix_caching is True
    # 2 layers, keys and values, 2 heads of 16, 4 bytes: 512 bytes a token, 4 GiB in all
    assert info.capacity_tokens == 4 * 2**30 // 512
    assert got == plain_ids(model_of("qwen3"), (1, 2, 3), 12)


def test_a_model_that_cannot_be_loaded_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="no folder"):
        LocalEngine.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="no folder"):
        LocalEngine.load(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="cannot load the model"):
        LocalEngine.load(tmp_path)
    with pytest.raises(ModelError, match="device 'nonsense'"):
        LocalEngine.load(tmp_path, device="nonsense")
    model_of("qwen3").config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")  # pickles are never read
    with pytest.raises(ModelError, match="safetensors"):
        LocalEngine.load(tmp_path, device="cpu")


def test_damaged_weights_are_named(tmp_path):
    model_of("qwen3").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:5000], whole[:3], b"", b"<html>" * 100):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match="cannot load the model"):
            LocalEngine.load(tmp_path, device="cpu")


def test_an_architecture_that_cannot_roll_back_is_refused():
    with pytest.raises(ModelError, match=r"layers other than attention.* a model server"):
        LocalEngine(model_of("mamba"), name="tiny")


def test_a_model_whose_steps_have_other_logits_than_one_pass_is_refused(monkeypatch):
    """A model that does not read its cache as transformers' decoders do."""
    model = model_of("qwen3")
    forward = model.forward

    def forgetful(**inputs: Any) -> object:
        length = inputs["input_ids"].shape[1]
        if inputs["use_cache"] and (mask := inputs.get("attention_mask")) is not None:
            inputs["attention_mask"] = mask * (
                torch.arange(mask.shape[1]) >= mask.shape[1] - length
            )
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", forgetful)
    with pytest.raises(ModelError, match="its logits change by"):
        LocalEngine(model, name="tiny")

    def failing(**_inputs: Any) -> NoReturn:
        raise ValueError("no such argument")

    monkeypatch.setattr(model, "forward", failing)
    with pytest.raises(ModelError, match="it fails with ValueError"):
        LocalEngine(model, name="tiny")
