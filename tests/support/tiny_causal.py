"""Tiny causal language models with random weights, and reference outputs without a cache."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from tessy.inference.base import Sampling
from tessy.inference.local.sampling import Draw, draw

VOCABULARY = 64
CONTEXT = 160
GREEDY = Sampling(temperature=0.0)
WARM = Sampling(temperature=1.0, top_p=0.95, top_k=20)

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    # Random weights of the usual size give nearly flat logits; these make the argmax stand out.
    "initializer_range": 0.3,
}
NO_SPECIALS: dict[str, Any] = {
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=16),
    "llama": lambda: LlamaConfig(**SIZES),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=7, head_dim=8),
    "gpt_oss": lambda: GptOssConfig(
        **SIZES, head_dim=16, sliding_window=6, num_local_experts=4, num_experts_per_tok=2
    ),
    "mamba": lambda: MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, state_size=4, num_hidden_layers=2, **NO_SPECIALS
    ),
}


@cache
def model_of(family: str) -> PreTrainedModel:
    torch.manual_seed(7)
    make: Any = AutoModelForCausalLM  # untyped
    model = make.from_config(CONFIGS[family](), dtype=torch.float32)
    assert isinstance(model, PreTrainedModel)
    torch.nn.Module.eval(model)
    return model


@torch.inference_mode()
def plain_ids(
    model: PreTrainedModel,
    prompt: Sequence[int],
    count: int,
    sampling: Sampling = GREEDY,
    seed: int = 0,
) -> list[int]:
    """Generate with a full forward pass for each token."""
    ids = list(prompt)
    for position in range(count):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1]
        ids += draw(logits, [Draw(sampling, seed, position)])
    return ids[len(prompt) :]
