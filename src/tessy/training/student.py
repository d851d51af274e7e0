"""The model that is fine-tuned: described first, weights loaded last."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tessy.core.errors import ModelError
from tessy.inference.local.model import (
    LOADING_ERRORS,
    adapter_base,
    load_causal,
    model_name,
    why_unloadable,
)
from tessy.training.memory import ModelSize

_HINT = (
    "it must be a transformers causal language model with safetensors weights (a local folder or a "
    "hub id)"
)


@dataclass(frozen=True, slots=True)
class StudentSpec:
    """A student without its weights."""

    name: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype  # of its files, and of the fine-tuned model's
    size: ModelSize
    attention: str  # implementation, as transformers names it


def read_student(model: str, lora_rank: int | None) -> StudentSpec:
    """Read config and tokenizer; ModelError if the model is no complete causal language model."""
    name = model_name(model)
    if Path(name).is_dir():
        name = str(Path(name).resolve())  # an adapter refers to its base by this name
    if base := adapter_base(name):
        raise ModelError(
            f"the model {name!r} is a LoRA adapter, which cannot be trained further; pass its base "
            f"{base!r}, or a model with the adapter merged in"
        )
    try:
        config = AutoConfig.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
        # Without the weights' data; finds weights that are missing.
        empty = load_causal(name, device_map="meta")
    except LOADING_ERRORS as error:
        raise ModelError(
            f"cannot load the model {name!r}: {why_unloadable(name, error)}; {_HINT}"
        ) from error
    flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") is not None
    return StudentSpec(
        name,
        config,
        tokenizer,
        config.dtype or torch.float32,
        _size(empty, lora_rank),
        "flash_attention_2" if flash else "sdpa",
    )


def _size(model: PreTrainedModel, lora_rank: int | None) -> ModelSize:
    config = model.config.get_text_config()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    hidden = config.hidden_size
    size = ModelSize(
        parameters=parameters,
        trainable=parameters,
        hidden=hidden,
        intermediate=getattr(config, "intermediate_size", None) or 4 * hidden,
        layers=config.num_hidden_layers,
    )
    if lora_rank is None:
        return size
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    return replace(size, trainable=lora_rank * sum(m.in_features + m.out_features for m in linear))


def load_weights(student: StudentSpec, *, trained: bool) -> PreTrainedModel:
    """Load the model, in float32 if all its weights are ``trained``.

    Optimizer steps are smaller than bfloat16 resolves. Under an adapter it is bfloat16 on a GPU.
    """
    frozen = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            student.name,
            dtype=torch.float32 if trained else frozen,
            use_safetensors=True,
            attn_implementation=student.attention,
        )
    except LOADING_ERRORS as error:
        raise ModelError(
            f"cannot load the model {student.name!r}: {why_unloadable(student.name, error)}; "
            f"{_HINT}"
        ) from error
    return loaded


def adapter_config(rank: int) -> LoraConfig:
    """Return a LoRA adapter on all linear layers but the head, with twice its rank as alpha."""
    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
