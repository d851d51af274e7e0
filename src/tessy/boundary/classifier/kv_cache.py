"""A classifier that keeps the keys and values of the windows it has read.

A window's new tokens are read once, together with those of other samples, on the same store as the
in-process engine's (``inference/local``), so that going back is exact. Architectures
whose state cannot be cut back, and sliding windows, are read whole each time: the same interface,
with nothing kept.

Shapes: B windows, Q new tokens each at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tessy.boundary.classifier.labels import STYLE
from tessy.boundary.classifier.model import PlainScorer
from tessy.boundary.classifier.scoring import Scores, WindowModel
from tessy.boundary.classifier.window import WindowRule
from tessy.inference.local.kv_cache import PooledSequence
from tessy.inference.local.model import PooledModel, vocabulary_size

# Of the memory that is free after loading. Two predictors and the models of an in-process run may
# share a device, and a pass needs room for activations.
_CACHE_SHARE = {"cuda": 0.25, "cpu": 0.125}
_CPU_CACHE_BYTES = 4 * 2**30  # at most; a container may hold less than the machine says
_STEP_TOKENS = 64  # of one window in one pass, so that a rebuild does not hold up short ones
_PROBE_TOKENS = 12
_TOLERANCE = {torch.float32: 1e-4}  # of P(style)
_HALF_TOLERANCE = 0.1  # bf16 and fp16; a wrong mask or position changes more


class CachedScorer(PooledModel):
    """Windows as sequences of a pool: each token is read once."""

    step_tokens = _STEP_TOKENS

    @torch.inference_mode()
    def forward(self, members: Sequence[tuple[PooledSequence, Sequence[int]]]) -> list[Scores]:
        """Read new tokens of each window: P(style) of what follows each."""
        style: list[list[float]] = _style(self.read(members)).tolist()  # [B, Q], right-aligned
        return [row[-len(new) :] for row, (_, new) in zip(style, members, strict=True)]


class WholeWindows:
    """Reads every window from its start; keeps nothing."""

    def __init__(self, scorer: PlainScorer, limit: int) -> None:
        """Read windows of ``limit`` tokens at most."""
        self.step_tokens = limit
        self._scorer = scorer

    def new(self) -> None:
        """Nothing is kept."""

    def reserve(self, state: None, count: int) -> bool:
        """Nothing is kept, so there is always room."""
        return True

    def rollback(self, state: None, length: int) -> int:
        """Nothing is known."""
        return 0

    def forward(self, members: Sequence[tuple[None, Sequence[int]]]) -> list[Scores]:
        """Read whole windows: P(style) of what follows each token."""
        return self._scorer.score([new for _, new in members])


def make_window_model(scorer: PlainScorer, rule: WindowRule) -> WindowModel[Any]:
    """The fastest way to read windows by ``rule`` that gives the classifier's own scores.

    Whether the store serves an architecture is found out with a few passes.

    Args:
        scorer: The classifier.
        rule: How windows move.
    """
    model = scorer.model
    whole = WholeWindows(scorer, rule.limit)
    if rule.sliding:
        return whole
    try:
        trial = CachedScorer(model, 8 * _PROBE_TOKENS)
        difference = _difference(trial, scorer)
    # Third-party modelling code that is called in a way it does not know can fail in any way.
    except Exception:
        return whole
    if not difference <= _TOLERANCE.get(model.dtype, _HALF_TOLERANCE):  # NaN is no success
        return whole
    tokens = _budget_bytes(model.device) // max(1, trial.token_bytes())
    return CachedScorer(model, max(rule.limit, tokens))


def _style(logits: Tensor) -> Tensor:
    """P(style) from ``[B, Q, 2]``."""
    return torch.softmax(logits.float(), -1)[..., STYLE]


def _difference(trial: CachedScorer, scorer: PlainScorer) -> float:
    """Largest error of P(style): windows of two lengths, a rollback, and a step of both."""
    last = vocabulary_size(scorer.model) - 1
    probe = [1 + (7 * i) % last for i in range(_PROBE_TOKENS)]
    expected = scorer.score([probe])[0]
    short, long = trial.new(), trial.new()
    half = len(probe) // 2
    errors = []
    for ends in ((half, len(probe)), (half + 1, len(probe) - 1)):
        trial.rollback(long, half - 1)
        members = [(s, probe[len(s.ids) : end]) for s, end in zip((short, long), ends, strict=True)]
        for sequence, new in members:
            trial.reserve(sequence, len(new))
        for scores, end in zip(trial.forward(members), ends, strict=True):
            wanted = expected[end - len(scores) : end]
            errors += [abs(a - b) for a, b in zip(scores, wanted, strict=True)]
    # max() would pass over NaN.
    return float(torch.tensor(errors).max())


def _budget_bytes(device: torch.device) -> int:
    """Bytes for keys and values: a share of what is free now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _CACHE_SHARE["cuda"])
    return min(_CPU_CACHE_BYTES, int(_free_memory_bytes() * _CACHE_SHARE["cpu"]))


def _free_memory_bytes() -> int:
    """Memory that can be had without swapping, where the system says so."""
    table = Path("/proc/meminfo")
    lines = table.read_text().splitlines() if table.exists() else []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 8 * _CPU_CACHE_BYTES
