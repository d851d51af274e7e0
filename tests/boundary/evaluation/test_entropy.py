import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen3Config, Qwen3ForCausalLM

from tessy.boundary.classifier.labels import encode_text
from tessy.boundary.evaluation.drafts import EvaluationSample, draw_drafts, to_segment
from tessy.boundary.evaluation.entropy import (
    EntropyModel,
    entropy_of,
    load_entropy_model,
    marks_at,
    predict_by_entropy,
    thresholds,
    unit_entropies,
)
from tessy.config.predictors import EntropyConfig
from tessy.core.errors import ConfigError, ModelError
from tessy.inference.base import ScoredToken
from tessy.inference.scripted import ScriptedEngine
from tests.support.annotations import TEXTS, annotation
from tests.support.tiny_bpe import codec, tokenizer
from tests.support.tiny_classifier import SIZES, build


def causal() -> Any:
    return build(Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=16, max_position_embeddings=512))


def sample() -> EvaluationSample:
    segments = [to_segment(annotation(text, f"q{i}")) for i, text in enumerate(TEXTS)]
    drafts = draw_drafts(segments, tokens=20, count=99, seed=0, cut="discard")
    return EvaluationSample(segments, drafts, "discard")


SURE = ScoredToken(0.0, 1, (math.log(0.99),))
UNSURE = ScoredToken(0.0, 1, (math.log(0.5), math.log(0.4)))


class UnsureAtChanges(ScriptedEngine):
    """A model that is unsure exactly where the annotation changes class."""

    def __init__(self) -> None:
        super().__init__(lambda text, seed: [], prompt_tokens=0, codec=codec())

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = 20
    ) -> list[ScoredToken]:
        text = b"".join(map(codec().token_bytes, ids)).decode()
        segment = to_segment(annotation(text))
        tokens = encode_text(codec(), text)
        scores = [SURE] * (len(ids) - 1)
        pairs = zip(segment.edges[1:], segment.truth, segment.truth[1:], strict=False)
        for edge, before, now in pairs:
            if before != now:
                scores[tokens.starts.index(edge) - 1] = UNSURE
        return scores


def test_entropy_counts_the_rest_as_one_outcome():
    assert entropy_of([0.0]) == 0
    assert entropy_of([math.log(0.5)] * 2) == pytest.approx(math.log(2))
    assert entropy_of([math.log(0.01)] * 30) == pytest.approx(
        -(20 * 0.01 * math.log(0.01) + 0.8 * math.log(0.8))
    )


async def test_a_model_unsure_at_every_change_cuts_exactly():
    both = sample()
    predicted, details = await predict_by_entropy(
        EntropyModel(UnsureAtChanges(), codec()), both, both
    )
    assert details["threshold_nats"] == entropy_of(SURE.top)
    assert max(row["right"] for row in details["threshold_sweep"]) == 1
    for segment, scores in zip(both.segments, predicted.segments, strict=True):
        assert scores == segment.truth


def test_unit_entropies_are_those_before_the_first_token():
    segment = to_segment(annotation("so 12 wait, é"))
    tokens = encode_text(codec(), segment.text)
    levels = unit_entropies(segment, tokens, [float(i) for i in range(len(tokens) - 1)])
    starts = [tokens.starts.index(edge) - 1 for edge in segment.edges[1:-1]]
    assert levels == (0.0, *map(float, starts))
    assert marks_at((9.0, 1.0, 2.0), 1.0) == (False, False, True)
    assert thresholds([(9.0, 1.0, 2.0), (9.0, 3.0)]) == [1.0, 2.0, 3.0]


def test_a_model_is_loaded_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    causal().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"--entropy\.tokenizer"):
        load_entropy_model(EntropyConfig(model=str(tmp_path)))
    tokenizer().save_pretrained(tmp_path)
    model = load_entropy_model(EntropyConfig(model=str(tmp_path)))

    async def score() -> list[ScoredToken]:
        try:
            return await model.engine.score("q/0", codec().encode("so 3"))
        finally:
            await model.engine.aclose()

    assert all(0 < entropy_of(token.top) < math.log(21) for token in asyncio.run(score()))
    with pytest.raises(ConfigError, match=r"--entropy\.model"):
        load_entropy_model(EntropyConfig())
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        load_entropy_model(
            EntropyConfig(model=str(tmp_path), url="http://127.0.0.1:1", api_key_env="NO_SUCH_KEY")
        )
