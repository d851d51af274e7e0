"""Requirements of training and inference on a classifier, its labels and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from tessy.boundary.classifier.labels import STYLE
from tessy.core.errors import ModelError, cause_of
from tessy.inference.local.model import LOADING_ERRORS
from tessy.tokenization.codec import HfCodec

_PROBE_TOKENS = 8
_CAUSAL_TOLERANCE = {torch.float32: 1e-4}  # rounding error, relative to the largest logit
_HALF_CAUSAL_TOLERANCE = 1e-2  # bf16 and fp16


def load_tokenizer(
    name: str, vocabulary_size: int, what: str, *, trust_remote_code: bool = False
) -> tuple[PreTrainedTokenizerFast, HfCodec]:
    """Load the tokenizer of the model ``name``, called ``what`` in messages, and its codec.

    Refuses one that does not decode losslessly, has ids outside the model's vocabulary, or appends
    special tokens.
    """
    folder = Path(name)
    if folder.is_dir() and not (folder / "tokenizer.json").exists():
        raise ModelError(
            f"{what} has no tokenizer: there is no tokenizer.json in the folder; save the "
            "tokenizer it was trained with beside it"
        )
    arguments = (name, vocabulary_size, what, trust_remote_code)
    try:
        return _read_tokenizer(AutoTokenizer, *arguments)
    except ModelError:
        # Some checkpoints name the wrong tokenizer class; their tokenizer.json is correct.
        return _read_tokenizer(PreTrainedTokenizerFast, *arguments)


def _read_tokenizer(
    kind: type[AutoTokenizer] | type[PreTrainedTokenizerFast],
    name: str,
    vocabulary_size: int,
    what: str,
    trust_remote_code: bool,
) -> tuple[PreTrainedTokenizerFast, HfCodec]:
    try:
        loaded = kind.from_pretrained(name, trust_remote_code=trust_remote_code)
        tokenizer = cast("PreTrainedTokenizerFast", loaded)
    except LOADING_ERRORS as error:
        raise ModelError(
            f"{what} has no tokenizer that can be loaded: {cause_of(error)}; save the tokenizer it "
            "was trained with beside it"
        ) from error
    codec = HfCodec(tokenizer)  # refuses a tokenizer without a tokenizer.json
    highest = max(i for i in tokenizer.get_vocab().values() if i not in codec.control_ids)
    if highest >= vocabulary_size:
        raise ModelError(
            f"the tokenizer beside {what} has ids up to {highest}, but the model's "
            f"vocabulary has only {vocabulary_size}; save the tokenizer it was trained with beside "
            "it"
        )
    _check_end(tokenizer, what)
    return tokenizer, codec


def _check_end(tokenizer: PreTrainedTokenizerFast, what: str) -> None:
    """Refuse a tokenizer that appends a special token: it would take the last token's output."""
    plain = tokenizer.encode("Okay, so", add_special_tokens=False)
    whole = tokenizer.encode("Okay, so")
    if whole[-1:] != plain[-1:]:
        token = tokenizer.convert_ids_to_tokens(whole[-1])
        raise ModelError(
            f"the tokenizer beside {what} appends the special token {token!r} to every "
            "text, but a boundary predictor classifies what comes next at the last token of a "
            "text; use a base model whose tokenizer appends nothing (a plain language model, not "
            "an embedding model)"
        )


def check_labels(config: PreTrainedConfig, what: str) -> None:
    """Check that there are two labels, of which label 1 is style."""
    labels = [str(label) for label in (config.id2label or {}).values()]
    if len(labels) != 2:
        raise ModelError(
            f"{what} has {len(labels)} labels ({', '.join(labels)}); it must have two: "
            "0 capability, 1 style"
        )
    if "style" in labels[1 - STYLE].lower():
        raise ModelError(
            f"{what} has label 0 {labels[0]!r} and label 1 {labels[1]!r}; label 1 must be style"
        )


@torch.inference_mode()
def check_causal(model: PreTrainedModel, what: str) -> None:
    """Check that changing later tokens does not change the outputs before them."""
    first = list(range(1, _PROBE_TOKENS + 1))
    half = _PROBE_TOKENS // 2
    other = first[:half] + first[: _PROBE_TOKENS - half]
    ids = torch.tensor([first, other], device=model.device)
    before, after = model(input_ids=ids, use_cache=False).logits[:, :half].float()
    change = float((before - after).abs().max() / before.abs().max().clamp_min(1e-12))
    if not change <= _CAUSAL_TOLERANCE.get(model.dtype, _HALF_CAUSAL_TOLERANCE):
        raise ModelError(
            f"{what} is not causal: its outputs at earlier tokens change by {change:.2g} "
            "when later tokens do; train a causal model (Qwen3, Llama, …) instead"
        )
