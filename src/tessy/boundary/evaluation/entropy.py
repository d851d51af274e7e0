"""The entropy rule: a boundary before each word whose first token has a high entropy.

The entropy is that of the 20 likeliest tokens and of all others as one outcome, in nats, so that a
server's logprobs and a model in this process give the same value. The threshold is the one with the
most correctly cut drafts on the validation part.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from tessy.boundary.classifier.labels import TokenOffsets, encode_text, unit_tokens
from tessy.boundary.evaluation.baseline_rules import Marks, predict_by_marks
from tessy.boundary.evaluation.drafts import EvaluationSample, EvaluationSegment
from tessy.boundary.evaluation.metrics import PairedScores, PredictedUnits, cut_drafts, cut_metrics
from tessy.boundary.evaluation.predictions import gather_limited
from tessy.config.predictors import EntropyConfig
from tessy.core.errors import ConfigError, EngineRefused, ModelError
from tessy.inference.http.client import ServerClient
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.token_ids import Codec

TOP = 20  # vLLM's default limit of logprobs per token
STEPS = 20
_IN_FLIGHT = 32
_STALL_SECONDS = 300.0
UnitEntropies = tuple[
    float, ...
]  # for each unit of a segment, the entropy (nats) before it; 0 for the first


class EntropySource(Protocol):
    """A language model that computes next-token entropies."""

    @property
    def codec(self) -> Codec:
        """Codec of the model's tokenizer."""
        ...

    async def entropies(self, ids: Sequence[int]) -> list[float]:
        """Return the entropy of what follows each of ``ids`` but the last (L - 1), in nats."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


def entropy_of(logprobs: Iterable[float]) -> float:
    """Return the entropy in nats of the likeliest :data:`TOP` outcomes and of the rest as one."""
    top = sorted((math.exp(value) for value in logprobs), reverse=True)[:TOP]
    return -sum(p * math.log(p) for p in (*top, 1.0 - math.fsum(top)) if p > 0)


class LocalEntropy:
    """A causal language model in this process."""

    def __init__(self, model: Any, codec: Codec) -> None:  # noqa: ANN401  # torch is optional
        """Use ``model``, a transformers model in evaluation mode."""
        self.codec = codec
        self._model = model

    async def entropies(self, ids: Sequence[int]) -> list[float]:
        """Return the entropy of what follows each of ``ids`` but the last (L - 1), in nats."""
        return await asyncio.to_thread(self._entropies, ids)

    def _entropies(self, ids: Sequence[int]) -> list[float]:
        import torch

        with torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=self._model.device)
            logits = self._model(input_ids=tokens, use_cache=False).logits[0, :-1]  # (L - 1, V)
            logprobs = torch.log_softmax(logits.float(), -1)
            top = logprobs.topk(min(TOP, logprobs.shape[-1]), -1).values
        return [entropy_of(row) for row in top.tolist()]

    async def aclose(self) -> None:
        """No-op: there are no connections."""


class ServerEntropy:
    """A vLLM server, which returns prompt logprobs."""

    def __init__(self, server: ServerClient, model: str, codec: Codec) -> None:
        """Use ``model`` on ``server``, with tokens of ``codec``."""
        self.codec = codec
        self._server = server
        self._model = model

    async def entropies(self, ids: Sequence[int]) -> list[float]:
        """Return the entropy of what follows each of ``ids`` but the last (L - 1), in nats.

        Raises:
            EngineError: The server is unreachable, or returns no prompt logprobs.
        """
        body = {"model": self._model, "prompt": list(ids), "max_tokens": 1, "prompt_logprobs": TOP}
        reply = await self._server.post_for_json(
            "/v1/completions", json.dumps(body).encode(), {}, read_seconds=_STALL_SECONDS
        )
        try:
            rows = reply["choices"][0]["prompt_logprobs"]
            found = [[float(one["logprob"]) for one in row.values()] for row in rows[1:]]
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            found = []
        if len(found) != len(ids) - 1:
            raise EngineRefused(
                f"{self._server.root} returned {len(found)} of {len(ids) - 1} prompt logprobs; the "
                "entropy rule needs a vLLM server, or leave entropy.url out to run the model here"
            )
        return [entropy_of(row) for row in found]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()


def load_source(config: EntropyConfig) -> EntropySource:
    """Load the model of the entropy rule.

    Raises:
        ConfigError: No model is given, or the API key's variable is not set.
        ModelError: Model or tokenizer cannot be used.
    """
    if config.model is None:
        raise ConfigError(
            "predictor: `entropy` needs a language model; give one with --entropy.model"
        )
    codec = _load_codec(config.tokenizer or config.model)
    if config.url is None:
        from tessy.inference.local.model import load_model  # needs torch

        return LocalEntropy(load_model(config.model), codec)
    api_key = os.environ.get(config.api_key_env) if config.api_key_env else None
    if config.api_key_env and not api_key:
        raise ConfigError(
            f"entropy.api_key_env: the environment variable {config.api_key_env} is not set; "
            "export it, or leave the option out for a server without keys"
        )
    server = ServerClient(config.url, api_key=api_key, stall_seconds=_STALL_SECONDS)
    return ServerEntropy(server, config.model, codec)


async def predict_by_entropy(
    source: EntropySource, sample: EvaluationSample, validation: EvaluationSample
) -> tuple[PredictedUnits, dict[str, Any]]:
    """Predict ``sample`` by the rule, with the threshold chosen on ``validation``.

    Returns:
        The predicted units, and details for the report: the threshold in nats, and the share of
        correctly cut drafts by threshold.

    Raises:
        EngineError: The server is unreachable, or returns no prompt logprobs.
    """
    tuning = await _segment_entropies(source, validation.segments)
    by_threshold = [(t, _right_share(validation, tuning, t)) for t in thresholds(tuning)]
    best = max(by_threshold, key=lambda item: item[1])[0]
    entropies = (
        tuning if sample is validation else await _segment_entropies(source, sample.segments)
    )
    sweep = [{"threshold": t, "right": right} for t, right in by_threshold]
    details = {"threshold_nats": best, "chosen_on": "validation", "threshold_sweep": sweep}
    return predict_by_marks(sample, [marks_at(one, best) for one in entropies]), details


def thresholds(entropies: Sequence[UnitEntropies]) -> list[float]:
    """Return the thresholds to try: quantiles of the entropies before words."""
    known = sorted(level for one in entropies for level in one[1:])
    return sorted({known[len(known) * step // STEPS] for step in range(STEPS)}) if known else [0.0]


def marks_at(entropies: UnitEntropies, threshold: float) -> Marks:
    """Mark the words before which the entropy is above ``threshold`` (nats)."""
    return tuple(index > 0 and level > threshold for index, level in enumerate(entropies))


def unit_entropies(
    segment: EvaluationSegment, tokens: TokenOffsets, entropies: Sequence[float]
) -> UnitEntropies:
    """Return the entropy before each unit (U).

    Args:
        segment: U units.
        tokens: Tokens of its text (L).
        entropies: Entropy of what follows each token but the last (L - 1), in nats.
    """
    firsts = [unit_tokens(tokens, start, end)[0] for start, end in pairwise(segment.edges)]
    return (0.0, *(entropies[min(first, len(entropies)) - 1] for first in firsts[1:]))


def _right_share(
    sample: EvaluationSample, entropies: Sequence[UnitEntropies], threshold: float
) -> float:
    predicted = predict_by_marks(sample, [marks_at(one, threshold) for one in entropies])
    right = cut_metrics(cut_drafts(sample.drafts, PairedScores(predicted, predicted), sample.cut))[
        "right"
    ]
    return 0.0 if right is None else right.value


async def _segment_entropies(
    source: EntropySource, segments: Sequence[EvaluationSegment]
) -> list[UnitEntropies]:
    async def one(segment: EvaluationSegment) -> UnitEntropies:
        tokens = encode_text(source.codec, segment.text)
        entropies = await source.entropies(tokens.ids) if len(tokens) > 1 else []
        return unit_entropies(segment, tokens, entropies)

    return await gather_limited(segments, one, in_flight=_IN_FLIGHT)


def _load_codec(name: str) -> Codec:
    from transformers import PreTrainedTokenizerFast  # takes seconds to import

    try:
        return HfCodec(PreTrainedTokenizerFast.from_pretrained(name))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"entropy: cannot load the tokenizer of {name!r}: {error}; give its folder or hub id "
            "with --entropy.tokenizer"
        ) from error
