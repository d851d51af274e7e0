"""Tiny token classifiers with random weights, and reference predictions by plain passes."""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import (
    GptOssConfig,
    GptOssForTokenClassification,
    MistralConfig,
    MistralForTokenClassification,
    PreTrainedConfig,
    Qwen3Config,
    Qwen3ForTokenClassification,
)

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.classifier.window import WindowRule
from tessy.core.edges import edges, units
from tests.support.tiny_bpe import WORDS, codec

RULE = WindowRule(limit=24, keep=9)

SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.3,
}


def build(kind: Any, config: PreTrainedConfig) -> Any:
    torch.manual_seed(3)
    return kind(config).eval()


def qwen3(**more: Any) -> Any:
    return build(Qwen3ForTokenClassification, Qwen3Config(**SIZES | more, head_dim=16))


def mistral() -> Any:
    """Return a model whose layers have a window of 7 tokens."""
    config = MistralConfig(**SIZES, sliding_window=7, head_dim=8)
    return build(MistralForTokenClassification, config)


def gpt_oss() -> Any:
    """Return a model in which every other layer has a window of 6 tokens."""
    more: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
    config = GptOssConfig(**SIZES, head_dim=16, sliding_window=6, **more)
    return build(GptOssForTokenClassification, config)


@torch.inference_mode()
def reference_prediction(model: Any, request: PredictionRequest, rule: WindowRule) -> Prediction:
    """Return the prediction, with one forward pass per relevant piece from its anchor."""
    pieces = [codec().encode(unit)[: rule.limit // 2] for unit in units(request.text)]
    # Start of each token (bytes), whether it is white space, its P(style).
    tokens: list[tuple[int, bool, float | None]] = []
    anchor, next_style, offset = 0, None, 0
    for i, (piece, end) in enumerate(zip(pieces, edges(request.text), strict=True)):
        if sum(map(len, pieces[anchor : i + 1])) > rule.limit:
            anchor = i - 1
            while anchor and sum(map(len, pieces[anchor - 1 : i])) <= rule.keep:
                anchor -= 1
        if end > request.edges[0] or i == len(pieces) - 1:
            before = [token for p in pieces[anchor:i] for token in p]
            logits = model(input_ids=torch.tensor([before + piece])).logits[0]
            style = [None, *torch.softmax(logits, -1)[:, 1].tolist()]
            next_style = style[-1]
            begins = offset
            for index, token in enumerate(piece, len(before)):
                written = codec().token_bytes(token)
                tokens.append((begins, written.isspace(), style[index]))
                begins += len(written)
        offset = len(request.text[:end].encode())
    scores = []
    for start, end in zip(request.edges, request.edges[1:], strict=False):
        low, high = (len(request.text[:k].encode()) for k in (start, end))
        unit = [(blank, p) for begin, blank, p in tokens if low <= begin < high]
        words = [i for i, (blank, _) in enumerate(unit) if not blank]
        deciding = unit[: words[-1] + 1] if words else unit
        known = [p for _, p in deciding if p is not None]
        scores.append(UnitScore(known[0], min(known), max(known)) if known else UnitScore(1, 1, 1))
    return Prediction(tuple(scores), next_style)


def close(got: Prediction, expected: Prediction) -> bool:
    if len(got.units) != len(expected.units) or (got.next_style is None) != (
        expected.next_style is None
    ):
        return False
    numbers = [p for unit in got.units for p in unit]
    wanted = [p for unit in expected.units for p in unit]
    if got.next_style is not None and expected.next_style is not None:
        numbers.append(got.next_style)
        wanted.append(expected.next_style)
    return bool(torch.allclose(torch.tensor(numbers), torch.tensor(wanted), atol=1e-5))


def request_for(text: str, scored: int = 3, key: str = "a") -> PredictionRequest:
    """Return a request for scores of the last ``scored`` units."""
    bounds = [0, *edges(text)]
    return PredictionRequest(key, text, tuple(bounds[-scored - 1 :]), final=True)


def long_text(words: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(words))
