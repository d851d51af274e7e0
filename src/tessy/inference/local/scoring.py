"""Log-probabilities of a given text from a model in this process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from tessy.inference.base import TOP_LOGPROBS, ScoredToken


def score_ids(model: PreTrainedModel, ids: Sequence[int]) -> list[ScoredToken]:
    """Score each of ``ids`` (L) but the first (L - 1) by ``model``, in one pass.

    Tokens with the same logit share the lowest of their ranks.
    """
    if len(ids) < 2:
        return []
    with torch.inference_mode():
        tokens_1l = torch.tensor([list(ids)], device=model.device)
        logits_lv = model(input_ids=tokens_1l, use_cache=False).logits[0, :-1].float()
        logprobs_lv = torch.log_softmax(logits_lv, -1)
        own_l1 = logprobs_lv.gather(1, tokens_1l[0, 1:, None])
        ranks_l = (logprobs_lv > own_l1).sum(-1) + 1
        top_lk = logprobs_lv.topk(min(TOP_LOGPROBS, logprobs_lv.shape[-1]), -1).values
    rows = zip(own_l1[:, 0].tolist(), ranks_l.tolist(), top_lk.tolist(), strict=True)
    return [ScoredToken(own, rank, tuple(top)) for own, rank, top in rows]
