"""The causal language model that training starts from: checked first, weights loaded last."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)

from tessy.boundary.classifier.checkpoint import check_causal, check_labels, load_tokenizer
from tessy.boundary.classifier.conventions import LABELS, position_limit
from tessy.config.predictors import TrainPredictorConfig
from tessy.core.errors import ModelError
from tessy.inference.local.model import LOADING_ERRORS, hide_loading_bar, model_name, why_unloadable
from tessy.tokenization.codec import HfCodec

_HINT = (
    "it must be a transformers causal language model with safetensors weights (a local folder or a "
    "hub id)"
)


@dataclass(frozen=True, slots=True)
class BaseModelSpec:
    """A base model without its weights."""

    name: str
    what: str  # in messages
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerFast
    codec: HfCodec


def read_base(options: TrainPredictorConfig) -> BaseModelSpec:
    """Load config and tokenizer of the base model; refuse one that cannot become a predictor."""
    name = model_name(options.base)
    what = f"the base model {name!r}"
    remote = options.trust_remote_code
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=remote)
    except LOADING_ERRORS as error:
        raise _unloadable(what, name, error) from error
    _check_kind(config, what, trust_remote_code=remote)
    limit = position_limit(config)
    if limit is not None and limit < options.max_tokens:
        raise ModelError(
            f"{what} can hold {limit} tokens, but max_tokens is {options.max_tokens}; "
            f"give --max-tokens {limit}, or use another base"
        )
    vocabulary_size = config.get_text_config().vocab_size
    tokenizer, codec = load_tokenizer(name, vocabulary_size, what, trust_remote_code=remote)
    return BaseModelSpec(name, what, config, tokenizer, codec)


def _unloadable(what: str, name: str, error: Exception) -> ModelError:
    return ModelError(f"cannot load {what}: {why_unloadable(name, error)}; {_HINT}")


def load_weights(base: BaseModelSpec, options: TrainPredictorConfig) -> PreTrainedModel:
    """Load the base as a causal token classifier with new head weights, on CPU.

    Weights stay in float32, since optimizer steps are smaller than bfloat16 resolves.
    """
    base.config.id2label = {int(number): label for number, label in LABELS.items()}
    base.config.label2id = {label: number for number, label in base.config.id2label.items()}
    hide_loading_bar()
    set_seed(options.seed)
    try:
        model, loading = AutoModelForTokenClassification.from_pretrained(
            base.name,
            config=base.config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=options.trust_remote_code,
        )
    except LOADING_ERRORS as error:
        raise _unloadable(base.what, base.name, error) from error
    body = f"{model.base_model_prefix}."
    missing = sorted(key for key in loading["missing_keys"] if key.startswith(body))
    if missing:
        raise ModelError(
            f"{base.what} has no weights for {len(missing)} parts ({missing[0]}, …); "
            f"its files belong to another model; {_HINT}"
        )
    torch.nn.Module.eval(model)
    check_causal(model, base.what)
    loaded: PreTrainedModel = model
    return loaded


def _check_kind(config: PreTrainedConfig, what: str, *, trust_remote_code: bool) -> None:
    for architecture in config.architectures or ():
        if architecture.endswith("ForTokenClassification"):
            check_labels(config, what)
        elif architecture.endswith("Classification"):
            raise ModelError(
                f"{what} is already a classifier of another kind ({architecture}); "
                "start from a causal language model, or from a boundary predictor"
            )
    if type(config) not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING and not trust_remote_code:
        raise ModelError(
            f"{what} is a {config.model_type} model, which transformers has no token "
            "classifier for; use another base (Qwen3, Llama, …)"
        )
