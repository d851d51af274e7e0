"""The entropy rule: a boundary before each word whose first token has a high entropy.

The entropy is that of the 20 likeliest tokens and of all others as one outcome, in nats, so that a
server's logprobs and a model in this process give the same value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from tessy.boundary.classifier.labels import TokenOffsets, encode_text, unit_tokens
from tessy.boundary.evaluation.baseline_rules import Marks, predict_by_marks
from tessy.boundary.evaluation.drafts import EvaluationSample, EvaluationSegment
from tessy.boundary.evaluation.metrics import PairedScores, PredictedUnits, cut_drafts, cut_metrics
from tessy.boundary.evaluation.predictions import gather_limited
from tessy.config.predictors import EntropyConfig
from tessy.core.errors import ConfigError, ModelError, cause_of
from tessy.inference.base import TOP_LOGPROBS, Engine
from tessy.inference.http.address import read_api_key
from tessy.inference.http.engine import HttpEngine
from tessy.inference.local.engine import LocalEngine
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.token_ids import Codec

STEPS = 20
_IN_FLIGHT = 32
_STALL_SECONDS = 300.0
UnitEntropies = tuple[float, ...]  # entropy (nats) before each unit of a segment; first: 0


class EntropyModel(NamedTuple):
    """The language model of the entropy rule, with the codec of its tokenizer."""

    engine: Engine
    codec: Codec


def entropy_of(logprobs: Iterable[float]) -> float:
    """Return the entropy in nats of the likeliest outcomes, with all others as one outcome."""
    top = sorted((math.exp(value) for value in logprobs), reverse=True)[:TOP_LOGPROBS]
    return -sum(p * math.log(p) for p in (*top, 1.0 - math.fsum(top)) if p > 0)


def load_entropy_model(config: EntropyConfig) -> EntropyModel:
    """Load the model of the entropy rule."""
    if config.model is None:
        raise ConfigError(
            "--predictor: `entropy` needs a language model; give one with --entropy.model"
        )
    codec = _load_codec(config.tokenizer or config.model)
    if config.url is None:
        return EntropyModel(LocalEngine.load(config.model), codec)
    api_key = read_api_key("--entropy.api-key-env", config.api_key_env)
    engine = HttpEngine(
        config.url, config.model, codec, api_key=api_key, stall_seconds=_STALL_SECONDS
    )
    return EntropyModel(engine, codec)


async def predict_by_entropy(
    model: EntropyModel, sample: EvaluationSample, validation: EvaluationSample
) -> tuple[PredictedUnits, dict[str, Any]]:
    """Predict ``sample`` by the rule, with the threshold that cuts most of ``validation`` right.

    Returns the predicted units, and details for the report: the threshold in nats, and the share of
    correctly cut drafts by threshold.
    """
    tuning = await _segment_entropies(model, validation.segments)
    by_threshold = [(t, _right_share(validation, tuning, t)) for t in thresholds(tuning)]
    best = max(by_threshold, key=lambda item: item[1])[0]
    entropies = tuning if sample is validation else await _segment_entropies(model, sample.segments)
    sweep = [{"threshold": t, "right": right} for t, right in by_threshold]
    details = {"threshold_nats": best, "chosen_on": "validation", "threshold_sweep": sweep}
    return predict_by_marks(sample, [marks_at(levels, best) for levels in entropies]), details


def thresholds(entropies: Sequence[UnitEntropies]) -> list[float]:
    """Return the thresholds to try: quantiles of the entropies before words."""
    known = sorted(level for levels in entropies for level in levels[1:])
    return sorted({known[len(known) * step // STEPS] for step in range(STEPS)}) if known else [0.0]


def marks_at(entropies: UnitEntropies, threshold: float) -> Marks:
    """Mark the words before which the entropy is above ``threshold`` (nats)."""
    return tuple(index > 0 and level > threshold for index, level in enumerate(entropies))


def unit_entropies(
    segment: EvaluationSegment, tokens: TokenOffsets, entropies: Sequence[float]
) -> UnitEntropies:
    """Return the entropy before each unit.

    ``entropies`` (L - 1) are those of what follows each of the L tokens but the last, in nats.
    """
    firsts = [unit_tokens(tokens, start, end)[0] for start, end in pairwise(segment.edges)]
    return (0.0, *(entropies[min(first, len(entropies)) - 1] for first in firsts[1:]))


def _right_share(
    sample: EvaluationSample, entropies: Sequence[UnitEntropies], threshold: float
) -> float:
    predicted = predict_by_marks(sample, [marks_at(levels, threshold) for levels in entropies])
    right = cut_metrics(cut_drafts(sample, PairedScores(predicted, predicted)))["right"]
    return 0.0 if right is None else right.value


async def _segment_entropies(
    model: EntropyModel, segments: Sequence[EvaluationSegment]
) -> list[UnitEntropies]:
    async def score_segment(segment: EvaluationSegment) -> UnitEntropies:
        tokens = encode_text(model.codec, segment.text)
        scores = await model.engine.score(segment.request().key, tokens.ids)
        return unit_entropies(segment, tokens, [entropy_of(score.top) for score in scores])

    return await gather_limited(segments, score_segment, in_flight=_IN_FLIGHT)


def _load_codec(name: str) -> Codec:
    from transformers import PreTrainedTokenizerFast  # takes seconds to import

    try:
        return HfCodec(PreTrainedTokenizerFast.from_pretrained(name))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"--entropy.model: cannot load the tokenizer of {name!r}: {cause_of(error)}; give its "
            "folder or hub id with --entropy.tokenizer"
        ) from error
