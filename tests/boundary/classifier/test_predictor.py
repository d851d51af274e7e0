import asyncio
import io
import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForTokenClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.classifier.conventions import conventions_of
from tessy.boundary.classifier.model import load_classifier
from tessy.boundary.classifier.predictor import TokenClassifierPredictor
from tessy.boundary.classifier.window import WindowRule
from tessy.boundary.load import load_predictor
from tessy.core.edges import edges, units
from tessy.core.errors import EngineRefused, EngineUnavailable, ModelError
from tests.support.tiny_bpe import CORPUS, codec, tokenizer
from tests.support.tiny_classifier import (
    RULE,
    SIZES,
    build,
    close,
    long_text,
    qwen3,
    reference_prediction,
    request_for,
)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictor")
    qwen3(max_position_embeddings=512).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
async def predictor(checkpoint):
    loaded = TokenClassifierPredictor.load(checkpoint, device="cpu")
    yield loaded
    await loaded.aclose()


# -- prediction


async def test_scores_are_those_of_a_plain_pass_over_the_text(predictor):
    text = "Okay, let's see. We need to compute 5 - 3 = 2.\nBut wait, hmm."
    request = PredictionRequest("a", text, (0, *edges(text)))
    prediction = await predictor.predict(request)
    ids = [token for unit in units(text) for token in codec().encode(unit)]
    with torch.inference_mode():
        logits = qwen3()(input_ids=torch.tensor([ids])).logits[0]
    style = torch.softmax(logits, -1)[:, 1].tolist()
    assert prediction.next_style == pytest.approx(style[-1], abs=1e-5)
    at = 0
    for unit, score in zip(units(text), prediction.units, strict=True):
        count = len(codec().encode(unit))
        own = style[max(0, at - 1) : at + count - 1]  # predicted one token earlier
        assert score == pytest.approx((own[0], min(own), max(own)), abs=1e-5)
        at += count
    assert predictor.sees_next is True
    assert predictor.lookahead == 0


async def test_a_first_unit_of_one_token_counts_as_style(predictor):
    prediction = await predictor.predict(PredictionRequest("a", "a", (0, 1)))
    assert codec().encode("a") == [codec().encode("a")[0]]
    assert prediction.units == (UnitScore(1.0, 1.0, 1.0),)
    assert prediction.next_style is not None


async def test_without_units_only_next_style_is_predicted(predictor):
    text = CORPUS[0]
    prediction = await predictor.predict(PredictionRequest("a", text, (len(text),)))
    assert prediction.units == ()
    assert prediction.next_style == (await predictor.predict(request_for(text))).next_style
    assert await predictor.predict(PredictionRequest("b", "", (0,))) == Prediction((), None)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    scored=st.integers(0, 12),
    seed=st.integers(0, 5),
)
async def test_windows_move_as_the_text_grows_and_shrinks(checkpoint, lengths, scored, seed):
    model = qwen3()
    loaded = TokenClassifierPredictor.load(checkpoint, device="cpu")
    loaded._reader._rule = RULE
    try:
        for length in lengths:
            request = request_for(long_text(length, seed), scored)
            assert close(await loaded.predict(request), reference_prediction(model, request, RULE))
    finally:
        await loaded.aclose()


async def test_batching_does_not_change_predictions(predictor):
    requests = [request_for(long_text(30 * i + 1, i), 4, f"k{i}") for i in range(12)]
    together = await asyncio.gather(*map(predictor.predict, requests))
    model = qwen3()
    for request, prediction in zip(requests, together, strict=True):
        predictor.release(request.key)
        assert close(prediction, await predictor.predict(request))
        assert close(prediction, reference_prediction(model, request, WindowRule()))


def hold(predictor, monkeypatch):
    """Block the worker in its next pass; returns the events `entered` and `gate` (to resume)."""
    entered, gate = threading.Event(), threading.Event()
    forward = predictor._reader._model.forward

    def wait(members):
        entered.set()
        assert gate.wait(60)
        return forward(members)

    monkeypatch.setattr(predictor._reader._model, "forward", wait)
    return entered, gate


async def test_queued_requests_share_a_pass(predictor, monkeypatch):
    entered, gate = hold(predictor, monkeypatch)
    first = predictor.predict(request_for("Okay, so", key="first"))
    await asyncio.to_thread(entered.wait)
    others = [predictor.predict(request_for("Okay, so", key=str(i))) for i in range(260)]
    gate.set()
    await asyncio.gather(first, *others)
    assert (predictor.stats.passes, predictor.stats.windows) == (2, 261)


async def test_a_cancelled_prediction_does_not_block_others(predictor):
    task = asyncio.ensure_future(predictor.predict(request_for(CORPUS[0])))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await predictor.predict(request_for(CORPUS[1]))).units


async def test_a_request_that_was_cancelled_before_its_pass_is_not_computed(predictor, monkeypatch):
    entered, gate = hold(predictor, monkeypatch)
    first = predictor.predict(request_for("Okay, so", key="first"))
    await asyncio.to_thread(entered.wait)
    dropped = predictor.predict(request_for("Okay, so", key="dropped"))
    dropped.cancel()
    gate.set()
    await first
    assert (await predictor.predict(request_for("Okay, so", key="last"))).units
    assert predictor.stats.windows == 2


async def test_a_failing_classifier_fails_its_requests(predictor, monkeypatch):
    forward = predictor._reader._model.forward
    monkeypatch.setattr(predictor._reader._model, "forward", _raise(ValueError("no such kernel")))
    with pytest.raises(EngineRefused, match="no such kernel"):
        await predictor.predict(request_for(CORPUS[0]))
    monkeypatch.setattr(
        predictor._reader._model, "forward", _raise(torch.OutOfMemoryError("out of memory"))
    )
    with pytest.raises(EngineUnavailable, match="ran out of memory"):
        await predictor.predict(request_for(CORPUS[0]))
    monkeypatch.setattr(predictor._reader._model, "forward", forward)
    assert (await predictor.predict(request_for(CORPUS[0]))).units


def _raise(error: Exception) -> Callable[..., NoReturn]:
    def score(_windows: object) -> NoReturn:
        raise error

    return score


async def test_a_closed_predictor_fails_its_requests(checkpoint, monkeypatch):
    loaded = TokenClassifierPredictor.load(checkpoint, device="cpu")
    entered, gate = hold(loaded, monkeypatch)
    working = loaded.predict(request_for(CORPUS[0], key="a"))
    await asyncio.to_thread(entered.wait)
    waiting = loaded.predict(request_for(CORPUS[0], key="b"))
    closing = asyncio.ensure_future(loaded.aclose())
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(EngineUnavailable, match="was closed"):
        await waiting
    await closing
    assert (await working).units
    assert not loaded._thread.is_alive()
    with pytest.raises(EngineUnavailable, match="was closed"):
        await loaded.predict(request_for(CORPUS[0]))


async def test_sliding_windows_read_the_last_200_tokens(checkpoint):
    loaded = load_predictor(str(checkpoint), window="sliding-200")
    assert isinstance(loaded, TokenClassifierPredictor)
    try:
        text = long_text(300)
        prediction = await loaded.predict(request_for(text, 2))
        read = loaded.stats.tokens
        ids = [token for unit in units(text) for token in codec().encode(unit)]
        with torch.inference_mode():
            logits = qwen3()(input_ids=torch.tensor([ids[-200:]])).logits[0]
        assert prediction.next_style == pytest.approx(
            torch.softmax(logits, -1)[-1, 1].item(), abs=1e-5
        )
        assert read == 200
    finally:
        await loaded.aclose()


# -- loading


def save(folder: Path, model: Any, *, with_tokenizer: bool = True) -> Path:
    model.save_pretrained(folder)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


def test_any_causal_architecture_is_supported(tmp_path):
    config = LlamaConfig(**SIZES, max_position_embeddings=64)
    save(tmp_path, build(LlamaForTokenClassification, config))
    loaded = TokenClassifierPredictor.load(str(tmp_path), device="cpu")
    assert loaded._reader._rule == WindowRule(64, 25)  # no more than the model can hold
    assert loaded.name == str(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qwen3(num_labels=3), r"has 3 labels \(LABEL_0, LABEL_1, LABEL_2\)"),
        (
            lambda: qwen3(id2label={0: "style", 1: "capability"}),
            "label 1 must be style",
        ),
        (lambda: build(Qwen3ForCausalLM, Qwen3Config(**SIZES)), "no weights for score"),
        (lambda: build(BertForTokenClassification, BertConfig(**SIZES)), "is not causal"),
        (lambda: qwen3(vocab_size=100), r"ids up to \d+, but the model.s vocabulary has only 100"),
    ],
)
def test_other_classifiers_are_refused(tmp_path, make, message):
    with pytest.raises(ModelError, match=message):
        TokenClassifierPredictor.load(save(tmp_path, make()), device="cpu")


def test_a_base_model_is_refused_without_warnings_of_transformers(tmp_path):
    delivered = io.StringIO()
    handler = logging.StreamHandler(delivered)
    transformers_logger = logging.getLogger("transformers")
    level = transformers_logger.level
    transformers_logger.addHandler(handler)
    try:
        with pytest.raises(ModelError, match="perhaps a base model"):
            load_classifier(save(tmp_path, build(Qwen3ForCausalLM, Qwen3Config(**SIZES))))
    finally:
        transformers_logger.removeHandler(handler)
    assert delivered.getvalue() == ""
    assert transformers_logger.level == level


def test_a_missing_part_is_named(tmp_path, checkpoint):
    with pytest.raises(ModelError, match="no folder"):
        TokenClassifierPredictor.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="cannot load the boundary predictor"):
        TokenClassifierPredictor.load(tmp_path)
    save(tmp_path, qwen3(), with_tokenizer=False)
    with pytest.raises(ModelError, match="tokenizer"):
        TokenClassifierPredictor.load(tmp_path, device="cpu")
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")  # pickles are never read
    with pytest.raises(ModelError, match="safetensors"):
        TokenClassifierPredictor.load(tmp_path, device="cpu")


def test_damaged_weights_are_named(tmp_path, checkpoint):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cannot load the boundary predictor"):
        TokenClassifierPredictor.load(tmp_path, device="cpu")


def test_code_of_a_checkpoint_is_never_run_nor_prompted_for(tmp_path, checkpoint, monkeypatch):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    own = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    (tmp_path / "theirs.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    for read in (load_classifier, conventions_of):
        with pytest.raises(ModelError, match="trust_remote_code"):
            read(str(tmp_path))


def test_a_bidirectional_qwen_is_refused(tmp_path):
    save(tmp_path, qwen3(is_causal=False))
    with pytest.raises(ModelError, match="is not causal"):
        TokenClassifierPredictor.load(tmp_path, device="cpu")


def test_importing_the_predictor_loads_neither_torch_nor_transformers():
    code = (
        "import sys, tessy.boundary.classifier.predictor\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_the_message_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tessy.boundary.classifier.predictor import TokenClassifierPredictor\n"
        "from tessy.core.errors import ModelError\n"
        "try: TokenClassifierPredictor.load('somewhere')\n"
        "except ModelError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 'pip install "tessy[torch]"' in done.stdout
