"""Scores of given token ids by a model in this process, for several texts in one pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tessy.core.errors import EngineError
from tessy.inference.base import ScoredToken
from tessy.inference.local.jobs import common_prefix, model_failure
from tessy.inference.local.model import vocabulary_size

_LOGITS_BYTES = 2**28


class ScoreRequest(NamedTuple):
    """Token ids to score from ``start`` on, and the number of likeliest tokens to return."""

    ids: tuple[int, ...]
    start: int
    top: int


def score_together(
    model: PreTrainedModel, requests: Sequence[ScoreRequest]
) -> list[list[ScoredToken]]:
    """Score one or more texts in one pass; a prefix that they share is computed once.

    Tokens with the same logit share the lowest of their ranks. Shapes: B texts, Q ids after the
    shared ones at most, V the vocabulary.
    """
    shared = len(requests[0].ids)
    for request in requests:
        # The id before the first scored one is not shared, because its logits are needed.
        shared = min(common_prefix(requests[0].ids, request.ids), shared, request.start - 1)
    rests = [list(request.ids[shared:]) for request in requests]
    logits_bqv = _logits(model, list(requests[0].ids[:shared]), rests)
    scores = []
    for request, rest, logits_qv in zip(requests, rests, logits_bqv, strict=True):
        first = request.start - shared  # index of the first scored id in the rest
        scores.append(_scores(logits_qv[first - 1 : len(rest) - 1], rest[first:], request.top))
    return scores


@torch.inference_mode()
def _logits(model: PreTrainedModel, shared: list[int], rests: list[list[int]]) -> Tensor:
    """Return the logits after each id of ``rests``, which follow ``shared``: ``[B, Q, V]``."""
    longest = max(map(len, rests))
    padded_bq = torch.tensor([rest + [0] * (longest - len(rest)) for rest in rests])
    mask_bq = torch.tensor([[1] * len(rest) + [0] * (longest - len(rest)) for rest in rests])
    options: dict[str, object] = {"use_cache": False}
    if shared:
        cache = DynamicCache(config=model.config)
        shared_1s = torch.tensor([shared], device=model.device)
        model(input_ids=shared_1s, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(rests))
        options = {"use_cache": True, "past_key_values": cache}
        mask_bq = torch.cat([torch.ones(len(rests), len(shared), dtype=torch.long), mask_bq], 1)
    output = model(
        input_ids=padded_bq.to(model.device), attention_mask=mask_bq.to(model.device), **options
    )
    logits: Tensor = output.logits
    return logits.float()


def _scores(logits_lv: Tensor, ids: Sequence[int], top: int) -> list[ScoredToken]:
    if not ids:
        return []
    logprobs_lv = torch.log_softmax(logits_lv, -1)
    own_l1 = logprobs_lv.gather(1, torch.tensor(ids, device=logprobs_lv.device)[:, None])
    ranks_l = (logprobs_lv > own_l1).sum(-1) + 1
    top_lk = logprobs_lv.topk(min(top, logprobs_lv.shape[-1]), -1).values
    rows = zip(own_l1[:, 0].tolist(), ranks_l.tolist(), top_lk.tolist(), strict=True)
    return [ScoredToken(own, rank, tuple(likeliest)) for own, rank, likeliest in rows]


@dataclass(eq=False)
class _Waiting:
    """A text that waits for its scores."""

    text: ScoreRequest
    outcome: list[ScoredToken] | EngineError | None = None


class Scorer:
    """Scores texts in a thread; concurrent requests of one sample share a pass."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        """Create the scorer; messages name the model ``name``."""
        self._model, self._name = model, name
        self._waiting: dict[str, list[_Waiting]] = {}
        self._lock = asyncio.Lock()  # concurrent passes would share the same cores

    async def score(self, key: str, ids: Sequence[int], start: int, top: int) -> list[ScoredToken]:
        """Score ``ids[start:]``; raises EngineRefused or EngineUnavailable if the model fails."""
        own = _Waiting(ScoreRequest(tuple(ids), start, top))
        waiting = self._waiting.setdefault(key, [])
        waiting.append(own)
        try:
            await asyncio.sleep(0)  # the sample's other requests are added meanwhile
            async with self._lock:  # the first one scores the texts of all
                if own.outcome is None:
                    await self._score_all([each for each in waiting if each.outcome is None])
        finally:
            waiting.remove(own)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]
        assert own.outcome is not None
        if isinstance(own.outcome, EngineError):
            raise own.outcome
        return own.outcome

    async def _score_all(self, batch: Sequence[_Waiting]) -> None:
        try:
            scores = await asyncio.to_thread(self._in_parts, [each.text for each in batch])
        except Exception as error:
            for each in batch:
                each.outcome = model_failure(error, self._name)
        else:
            for each, text_scores in zip(batch, scores, strict=True):
                each.outcome = text_scores

    def _in_parts(self, texts: Sequence[ScoreRequest]) -> list[list[ScoredToken]]:
        """Score texts in passes whose logits fit into :data:`_LOGITS_BYTES`."""
        longest = max(len(text.ids) for text in texts)
        each = 4 * longest * vocabulary_size(self._model)
        count = max(1, _LOGITS_BYTES // each)
        return [
            scores
            for start in range(0, len(texts), count)
            for scores in score_together(self._model, texts[start : start + count])
        ]
