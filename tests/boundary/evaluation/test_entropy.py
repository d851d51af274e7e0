import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestServer
from transformers import Qwen3Config, Qwen3ForCausalLM

from tessy.boundary.classifier.labels import encode_text
from tessy.boundary.evaluation.drafts import EvaluationSample, count_one, draw_drafts, to_segment
from tessy.boundary.evaluation.entropy import (
    LocalEntropy,
    ServerEntropy,
    entropy_of,
    load_source,
    marks_at,
    predict_by_entropy,
    thresholds,
    unit_entropies,
)
from tessy.config.predictors import EntropyConfig
from tessy.core.errors import ConfigError, EngineRefused, ModelError
from tessy.inference.http.client import ServerClient
from tests.support.annotations import TEXTS, annotation
from tests.support.tiny_bpe import codec, tokenizer
from tests.support.tiny_classifier import SIZES, build


def causal() -> Any:
    return build(Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=16, max_position_embeddings=512))


def sample() -> EvaluationSample:
    segments = [to_segment(annotation(text, f"q{i}"), count_one) for i, text in enumerate(TEXTS)]
    drafts = draw_drafts(segments, tokens=20, count=99, seed=0, cut="discard")
    return EvaluationSample(segments, drafts, "discard")


class KnowsChanges:
    """Unsure exactly where the annotation changes class."""

    codec = codec()

    def __init__(self) -> None:
        self.closed = False

    async def entropies(self, ids):
        text = b"".join(map(self.codec.token_bytes, ids)).decode()
        segment = to_segment(annotation(text), count_one)
        tokens = encode_text(self.codec, text)
        found = [0.1] * (len(ids) - 1)
        pairs = zip(segment.edges[1:], segment.truth, segment.truth[1:], strict=False)
        for edge, before, now in pairs:
            if before != now:
                found[tokens.starts.index(edge) - 1] = 2.0
        return found

    async def aclose(self) -> None:
        self.closed = True


def test_entropy_counts_the_rest_as_one_outcome():
    assert entropy_of([0.0]) == 0
    assert entropy_of([math.log(0.5)] * 2) == pytest.approx(math.log(2))
    assert entropy_of([math.log(0.01)] * 30) == pytest.approx(
        -(20 * 0.01 * math.log(0.01) + 0.8 * math.log(0.8))
    )


async def test_a_model_unsure_at_every_change_cuts_exactly():
    one = sample()
    predicted, details = await predict_by_entropy(KnowsChanges(), one, one)
    assert details["threshold_nats"] == 0.1
    assert max(row["right"] for row in details["threshold_sweep"]) == 1
    for segment, scores in zip(one.segments, predicted.segments, strict=True):
        assert scores == segment.truth


def test_unit_entropies_are_those_before_the_first_token():
    segment = to_segment(annotation("so 12 wait, é"), count_one)
    tokens = encode_text(codec(), segment.text)
    levels = unit_entropies(segment, tokens, [float(i) for i in range(len(tokens) - 1)])
    starts = [tokens.starts.index(edge) - 1 for edge in segment.edges[1:-1]]
    assert levels == (0.0, *map(float, starts))
    assert marks_at((9.0, 1.0, 2.0), 1.0) == (False, False, True)
    assert thresholds([(9.0, 1.0, 2.0), (9.0, 3.0)]) == [1.0, 2.0, 3.0]


async def test_a_server_and_this_process_give_the_same_entropies(tmp_path):
    model = causal()
    ids = codec().encode(TEXTS[0])

    async def reply(request: web.Request) -> web.Response:
        body = await request.json()
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([body["prompt"]])).logits[0, :-1]
        top = torch.log_softmax(logits, -1).topk(body["prompt_logprobs"], -1)
        rows = [
            {str(i): {"logprob": p} for i, p in zip(ids, values, strict=True)}
            for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
        return web.json_response({"choices": [{"prompt_logprobs": [None, *rows]}]})

    app = web.Application()
    app.router.add_post("/v1/completions", reply)
    async with TestServer(app) as running:
        url = str(running.make_url("/"))
        server = ServerClient(url, api_key=None, stall_seconds=30)
        source = ServerEntropy(server, "tiny", codec())
        details = await source.entropies(ids)
        await source.aclose()
    here = await LocalEntropy(model, codec()).entropies(ids)
    assert len(here) == len(ids) - 1
    assert details == pytest.approx(here, abs=1e-4)


async def test_a_server_without_prompt_logprobs_is_refused():
    async def reply(request: web.Request) -> web.Response:
        return web.json_response({"choices": [{"text": "x"}]})

    app = web.Application()
    app.router.add_post("/v1/completions", reply)
    async with TestServer(app) as running:
        url = str(running.make_url("/"))
        server = ServerClient(url, api_key=None, stall_seconds=30)
        source = ServerEntropy(server, "tiny", codec())
        with pytest.raises(EngineRefused, match="needs a vLLM server"):
            await predict_by_entropy(source, sample(), sample())
        await source.aclose()


def test_a_model_is_loaded_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    causal().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"--entropy\.tokenizer"):
        load_source(EntropyConfig(model=str(tmp_path)))
    tokenizer().save_pretrained(tmp_path)
    source = load_source(EntropyConfig(model=str(tmp_path)))
    assert len(asyncio.run(source.entropies(codec().encode("so 3")))) > 0
    with pytest.raises(ConfigError, match=r"--entropy\.model"):
        load_source(EntropyConfig())
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        load_source(
            EntropyConfig(model=str(tmp_path), url="http://127.0.0.1:1", api_key_env="NO_SUCH_KEY")
        )
