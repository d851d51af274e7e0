"""The entropy rule: a boundary before each word of whose first token a language model is unsure.

Entropy is that of the 20 likeliest tokens and of all others as one, in nats, so that a server's
logprobs and a model in this process give the same. The threshold is the one by which most drafts of
the validation part end right.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from tessy.boundary.classifier.labels import TokenOffsets, tokens_of, unit_tokens
from tessy.boundary.evaluation.baseline_rules import Marks, by_marks
from tessy.boundary.evaluation.drafts import EvaluationSample, EvaluationSegment
from tessy.boundary.evaluation.metrics import Pair, PredictedUnits, cut_figures, cuttings
from tessy.boundary.evaluation.predictions import each
from tessy.config.predictors import EntropyConfig
from tessy.core.errors import ConfigError, EngineRefused, ModelError
from tessy.inference.http.client import ServerClient
from tessy.tokenization.codec import HfCodec
from tessy.tokenization.token_ids import Codec

TOP = 20  # what vLLM tells unless told otherwise
STEPS = 20
_IN_FLIGHT = 32
_STALL_SECONDS = 300.0
Levels = tuple[float, ...]  # for each unit of a segment the entropy just before it; first 0


class EntropySource(Protocol):
    """Says how unsure a model is."""

    @property
    def codec(self) -> Codec:
        """Of the model's tokenizer."""
        ...

    async def entropies(self, ids: Sequence[int]) -> list[float]:
        """Of what follows each of ``ids`` but the last (L - 1), in nats."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


def entropy_of(logprobs: Iterable[float]) -> float:
    """Entropy in nats of the likeliest :data:`TOP` outcomes, and of the rest as one."""
    top = sorted((math.exp(value) for value in logprobs), reverse=True)[:TOP]
    return -sum(p * math.log(p) for p in (*top, 1.0 - math.fsum(top)) if p > 0)


class LocalEntropy:
    """A causal language model in this process."""

    def __init__(self, model: Any, codec: Codec) -> None:  # noqa: ANN401  # torch is optional
        """Use ``model``, a transformers model in evaluation mode."""
        self.codec = codec
        self._model = model

    async def entropies(self, ids: Sequence[int]) -> list[float]:
        """Of what follows each of ``ids`` but the last (L - 1), in nats."""
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
        """Nothing to let go of."""


class ServerEntropy:
    """A vLLM server, which tells the logprobs of a prompt's tokens."""

    def __init__(self, server: ServerClient, model: str, codec: Codec) -> None:
        """Ask ``server`` about ``model``, in the tokens of ``codec``."""
        self.codec = codec
        self._server = server
        self._model = model

    async def entropies(self, ids: Sequence[int]) -> list[float]:
        """Of what follows each of ``ids`` but the last (L - 1), in nats.

        Raises:
            EngineError: The server cannot be reached, or tells no logprobs of prompts.
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
                f"{self._server.root} told {len(found)} of {len(ids) - 1} prompt logprobs; the "
                "entropy rule needs a vLLM server, or leave entropy.url out to run the model here"
            )
        return [entropy_of(row) for row in found]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()


def load_source(config: EntropyConfig) -> EntropySource:
    """The model that the entropy rule asks.

    Raises:
        ConfigError: No model is named, or the API key's variable is not set.
        ModelError: Model or tokenizer cannot be used.
    """
    if config.model is None:
        raise ConfigError(
            "predictor: `entropy` needs a language model; name one with --entropy.model"
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


async def judge_by_entropy(
    source: EntropySource, sample: EvaluationSample, validation: EvaluationSample
) -> tuple[PredictedUnits, dict[str, Any]]:
    """What the rule says of ``sample``, with the threshold chosen on ``validation``.

    Returns:
        What it says, and the threshold in nats with the share of drafts that end right by each.

    Raises:
        EngineError: The model cannot be asked.
    """
    tuned = await _levels(source, validation.segments)
    swept = [(t, _right(validation, tuned, t)) for t in thresholds(tuned)]
    best = max(swept, key=lambda item: item[1])[0]
    levels = tuned if sample is validation else await _levels(source, sample.segments)
    sweep = [{"threshold": t, "right": right} for t, right in swept]
    told = {"threshold_nats": best, "chosen_on": "validation", "threshold_sweep": sweep}
    return by_marks(sample, [marks_at(one, best) for one in levels]), told


def thresholds(levels: Sequence[Levels]) -> list[float]:
    """Levels to try: evenly spread over those that occur before words."""
    known = sorted(level for one in levels for level in one[1:])
    return sorted({known[len(known) * step // STEPS] for step in range(STEPS)}) if known else [0.0]


def marks_at(levels: Levels, threshold: float) -> Marks:
    """Marks before the words at whose beginning the entropy is above ``threshold`` (nats)."""
    return tuple(index > 0 and level > threshold for index, level in enumerate(levels))


def levels_of(
    segment: EvaluationSegment, tokens: TokenOffsets, entropies: Sequence[float]
) -> Levels:
    """The entropy before each unit.

    Args:
        segment: U units.
        tokens: Of its text (L).
        entropies: Of what follows each token but the last (L - 1), in nats.
    """
    firsts = [unit_tokens(tokens, start, end)[0] for start, end in pairwise(segment.edges)]
    return (0.0, *(entropies[min(first, len(entropies)) - 1] for first in firsts[1:]))


def _right(sample: EvaluationSample, levels: Sequence[Levels], threshold: float) -> float:
    judged = by_marks(sample, [marks_at(one, threshold) for one in levels])
    right = cut_figures(cuttings(sample.drafts, Pair(judged, judged), sample.cut))["right"]
    return 0.0 if right is None else right.value


async def _levels(source: EntropySource, segments: Sequence[EvaluationSegment]) -> list[Levels]:
    async def one(segment: EvaluationSegment) -> Levels:
        tokens = tokens_of(source.codec, segment.text)
        entropies = await source.entropies(tokens.ids) if len(tokens) > 1 else []
        return levels_of(segment, tokens, entropies)

    return await each(segments, one, in_flight=_IN_FLIGHT)


def _load_codec(name: str) -> Codec:
    from transformers import PreTrainedTokenizerFast  # takes seconds to import

    try:
        return HfCodec(PreTrainedTokenizerFast.from_pretrained(name))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"entropy: cannot load the tokenizer of {name!r}: {error}; give its folder or hub id "
            "with --entropy.tokenizer"
        ) from error
