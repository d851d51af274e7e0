"""A logits processor that ends texts of a model without ends: ``--logits-processors``.

vLLM imports this module in an environment without tessy. Thinking ends after any token with the
same probability, answers have lognormal lengths, as with the simulated servers.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vllm.v1.sample.logits_processor import (  # type: ignore[import-not-found]  # see above
    LogitsProcessor,
    MoveDirectionality,
)

from benchmarks.text_lengths import BREAK_TOKENS, Ends, answer_length, question_key

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig  # type: ignore[import-not-found]
    from vllm.v1.sample.logits_processor import BatchUpdate


class EndingProcessor(LogitsProcessor):  # type: ignore[misc]  # of unknown kind
    """Forces the id that ends a text when it is due, unless the request ignores ends."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        """Read the benchmark's settings from the model's folder."""
        self._ends = Ends.read(Path(vllm_config.model_config.model))
        self._next: dict[int, Callable[[], int | None]] = {}  # by place in the batch

    def is_argmax_invariant(self) -> bool:
        """Return False: an end that is due is forced."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Track the requests in the batch."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._next.pop(index, None)
        for index, params, prompt, written in batch_update.added:
            if params.ignore_eos:
                self._next.pop(index, None)
            else:
                self._next[index] = self._clock(params.seed, prompt, len(written))
        for source, target, direction in batch_update.moved:
            first, second = self._next.pop(source, None), self._next.pop(target, None)
            if first is not None:
                self._next[target] = first
            if second is not None and direction is MoveDirectionality.SWAP:
                self._next[source] = second

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask all other ids where a text ends.

        Args:
            logits: ``[requests, vocabulary]``, changed in place.
        """
        for index, due in self._next.items():
            token = due()
            if token is not None:
                logits[index] = float("-inf")
                logits[index, token] = 0.0
        return logits

    def _clock(self, seed: int | None, prompt: list[int], written: int) -> Callable[[], int | None]:
        """Return the id that is forced here, if any; called for every token."""
        ends = self._ends
        if ends.end_thinking not in prompt:
            rng = random.Random(seed)
            for _ in range(written):  # draws of a preempted request that resumes
                rng.random()
            return lambda: ends.end_thinking if rng.random() * ends.thinking_tokens < 1 else None
        key = question_key(prompt)
        answered = len(prompt) - prompt.index(ends.end_thinking) - 1 - BREAK_TOKENS + written
        remaining = iter(range(answer_length(key, ends.answer_tokens) - answered, 0, -1))
        return lambda: ends.end_turn if next(remaining, None) is None else None
