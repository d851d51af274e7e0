"""Sampling of tokens that depends on the request alone, not on the rest of the batch.

Filters act in the usual order: temperature, top-k, top-p, min-p. What is left is drawn by inverse
CDF over the probabilities in descending order, equal logits by id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tessy.inference.base import Sampling


class Draw(NamedTuple):
    """How to draw one token."""

    sampling: Sampling
    seed: int
    place: int  # the token's place in the request's output, from 0


def uniform(seed: int, index: int) -> float:
    """Return a number in [0, 1) with 53 random bits, a pure function of ``seed`` and ``index``."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode("ascii"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def draw(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """Draw a token for each row of ``[rows, vocabulary]``; -1 if its logits are not numbers."""
    groups: dict[Sampling, list[int]] = {}
    for row, item in enumerate(draws):
        groups.setdefault(item.sampling, []).append(row)
    if len(groups) == 1:
        return _draw_alike(logits, draws)
    ids = [0] * len(draws)
    for rows in groups.values():
        index = torch.tensor(rows, device=logits.device)
        drawn = _draw_alike(logits.index_select(0, index), [draws[row] for row in rows])
        for row, token_id in zip(rows, drawn, strict=True):
            ids[row] = token_id
    return ids


def _draw_alike(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """Draw for rows with the same sampling values."""
    sampling = draws[0].sampling
    if sampling.temperature <= 0:
        best, ids = logits.max(-1)
        return [int(i) for i in torch.where(best.isnan(), -1, ids).tolist()]
    values, ids = _descending(logits, sampling.top_k)
    weights = torch.softmax(values.double() / sampling.temperature, -1)
    keep = weights.cumsum(-1) - weights < sampling.top_p
    keep &= weights >= sampling.min_p * weights[:, :1]
    keep[:, 0] = True
    cdf = (weights * keep).cumsum(-1)
    total = cdf[:, -1]
    numbers = [uniform(item.seed, item.place) for item in draws]
    target = torch.tensor(numbers, dtype=torch.float64, device=logits.device) * total
    place = torch.minimum((cdf <= target[:, None]).sum(-1), keep.sum(-1) - 1)
    drawn = ids.gather(-1, place[:, None])[:, 0]
    return [int(i) for i in torch.where(total > 0, drawn, -1).tolist()]


def _descending(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the ``top_k`` largest logits of each row (all if it is 0) and their ids."""
    if 0 < top_k < logits.shape[-1]:
        values, ids = torch.topk(logits, top_k + 1, dim=-1)
        # Which of several equal logits topk leaves out is not defined; the sort below defines it.
        if not bool((values[:, -1] == values[:, -2]).any()):
            values, ids = values[:, :top_k], ids[:, :top_k]
            ids, order = torch.sort(ids, dim=-1)
            values, order = torch.sort(
                values.gather(-1, order), dim=-1, descending=True, stable=True
            )
            return values, ids.gather(-1, order)
    else:
        top_k = logits.shape[-1]
    values, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
    return values[:, :top_k], ids[:, :top_k]
