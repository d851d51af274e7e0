import asyncio
import subprocess
import sys
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForTokenClassification, Qwen3Config

from tessy.core.errors import EngineRefused, ModelError
from tessy.inference.local.engine import LocalEngine
from tessy.inference.local.model import load_causal
from tests.support.local_engine import collect, ids_of, request
from tests.support.tiny_causal import CONTEXT, GREEDY, SIZES, VOCABULARY, WARM, model_of, plain_ids


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
    with pytest.raises(ModelError, match=r"cannot load the model .*[^.]; it must be"):
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


def test_a_model_without_the_weights_of_a_language_model_is_refused(tmp_path):
    """Transformers would draw the missing weights at random."""
    model = model_of("qwen3")
    whole, headless, tied, classifier = (tmp_path / name for name in ("w", "h", "t", "c"))
    model.save_pretrained(whole)
    AutoModel.from_pretrained(whole).save_pretrained(headless)
    with pytest.raises(ModelError, match=r"lack 1 weight of .*\(lm_head.weight\), which would be"):
        LocalEngine.load(headless, device="cpu")
    config = Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True)
    AutoModel.from_config(config).save_pretrained(tied)
    load_causal(str(tied))
    AutoModelForTokenClassification.from_config(config).save_pretrained(classifier)
    with pytest.raises(ModelError, match="is a Qwen3ForTokenClassification, not a causal"):
        LocalEngine.load(classifier, device="cpu")


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
