"""A classifier with a key-value cache of the windows it has read.

The cache is that of the in-process engine (``inference/local``), so a rollback is exact. Sliding
windows, and architectures whose state cannot be truncated, are read whole each time through the
same interface. Shapes: B windows, at most Q new tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tessy.boundary.classifier.labels import STYLE
from tessy.boundary.classifier.model import PlainScorer
from tessy.boundary.classifier.reader import Scores, WindowModel
from tessy.boundary.classifier.window import WindowRule
from tessy.inference.local.kv_cache import PooledSequence
from tessy.inference.local.model import TRIAL_CAPACITY, PooledModel, probe_ids, trial_passes

# Shares of the memory that is free after loading: two predictors and the models of an in-process
# run may share a device, and a pass needs memory for activations.
_CACHE_SHARE = {"cuda": 0.25, "cpu": 0.125}
_CPU_CACHE_BYTES = 4 * 2**30  # maximum; a container may have less memory than the system reports
_STEP_TOKENS = 64  # of one window in one pass, so that rebuilt windows do not delay short ones
_TOLERANCE = {torch.float32: 1e-4}  # of P(style)
_HALF_TOLERANCE = 0.1  # bf16 and fp16; a wrong mask or position causes a larger error


class CachedScorer(PooledModel):
    """A classifier on a pooled key-value cache: each token is read once."""

    step_tokens = _STEP_TOKENS

    @torch.inference_mode()
    def forward(self, members: Sequence[tuple[PooledSequence, Sequence[int]]]) -> list[Scores]:
        """Read the new tokens of each window; return P(style) of what follows each token."""
        logits = self.read(members)  # [B, Q, 2], right-aligned
        style: list[list[float]] = torch.softmax(logits.float(), -1)[..., STYLE].tolist()
        return [row[-len(new) :] for row, (_, new) in zip(style, members, strict=True)]


def make_window_model(scorer: PlainScorer, rule: WindowRule) -> WindowModel[Any]:
    """Return the fastest window model with the same scores as ``scorer``.

    Compares the cache with plain forward passes on a short probe; falls back to whole windows if
    the scores differ.
    """
    model = scorer.model
    if rule.sliding:
        return scorer
    try:
        trial = CachedScorer(model, TRIAL_CAPACITY)
        difference = _difference(trial, scorer)
    # Third-party modelling code may raise anything when it does not support the cache.
    except Exception:
        return scorer
    if not difference <= _TOLERANCE.get(model.dtype, _HALF_TOLERANCE):  # also refuses NaN
        return scorer
    tokens = _budget_bytes(model.device) // max(1, trial.token_bytes())
    return CachedScorer(model, max(rule.limit, tokens))


def _difference(trial: CachedScorer, scorer: PlainScorer) -> float:
    """Return the largest error of P(style) in the trial passes."""
    probe = probe_ids(scorer.model)
    expected = scorer.score([probe])[0]
    errors = []
    for members, ends in trial_passes(trial, probe):
        for scores, end in zip(trial.forward(members), ends, strict=True):
            wanted = expected[end - len(scores) : end]
            errors += [abs(a - b) for a, b in zip(scores, wanted, strict=True)]
    # Unlike max(), Tensor.max() propagates NaN.
    return float(torch.tensor(errors).max())


def _budget_bytes(device: torch.device) -> int:
    """Return the bytes for keys and values: a share of the free memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _CACHE_SHARE["cuda"])
    return min(_CPU_CACHE_BYTES, int(_free_memory_bytes() * _CACHE_SHARE["cpu"]))


def _free_memory_bytes() -> int:
    """Return the memory available without swapping; a default where it cannot be read."""
    table = Path("/proc/meminfo")
    lines = table.read_text().splitlines() if table.exists() else []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 8 * _CPU_CACHE_BYTES
