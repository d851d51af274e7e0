"""What training and inference require of a classifier, its labels and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from tessy.boundary.classifier.labels import STYLE
from tessy.core.errors import ModelError
from tessy.inference.local.model import LOADING_ERRORS
from tessy.tokenization.codec import HfCodec

_PROBE_TOKENS = 8
_CAUSAL_TOLERANCE = {torch.float32: 1e-4}  # of the largest logit; what rounding may do
_HALF_CAUSAL_TOLERANCE = 1e-2  # bf16 and fp16


def load_tokenizer(
    name: str, known: int, *, what: str, trust_remote_code: bool = False
) -> tuple[PreTrainedTokenizerFast, HfCodec]:
    """The tokenizer beside a model, and its codec.

    Args:
        name: The model's folder or hub id.
        known: The model knows ids below this.
        what: What the model is, for messages: ``the boundary predictor``.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: There is none, it cannot give text back, it has ids the model does not know, or
            it puts special tokens behind a text.
    """
    folder = Path(name)
    if folder.is_dir() and not (folder / "tokenizer.json").exists():
        raise ModelError(
            f"{what} {name!r} has no tokenizer: there is no tokenizer.json in the folder; save the "
            "tokenizer it was trained with beside it"
        )
    try:
        return _read_tokenizer(AutoTokenizer, name, known, what, trust_remote_code)
    except ModelError:
        # Some checkpoints name a tokenizer class that is not theirs; their tokenizer.json is right.
        return _read_tokenizer(PreTrainedTokenizerFast, name, known, what, trust_remote_code)


def _read_tokenizer(
    kind: type[AutoTokenizer] | type[PreTrainedTokenizerFast],
    name: str,
    known: int,
    what: str,
    trust_remote_code: bool,
) -> tuple[PreTrainedTokenizerFast, HfCodec]:
    try:
        tokenizer = cast(
            "PreTrainedTokenizerFast",
            kind.from_pretrained(name, trust_remote_code=trust_remote_code),
        )
    except LOADING_ERRORS as error:
        raise ModelError(
            f"{what} {name!r} has no tokenizer that can be loaded: {error}; save the tokenizer it "
            "was trained with beside it"
        ) from error
    codec = HfCodec(tokenizer)  # refuses a tokenizer without a tokenizer.json
    highest = max(i for i in tokenizer.get_vocab().values() if i not in codec.control_ids)
    if highest >= known:
        raise ModelError(
            f"the tokenizer beside {what} {name!r} has ids up to {highest}, the model knows those "
            f"below {known}; save the tokenizer it was trained with beside it"
        )
    _check_end(tokenizer, what, name)
    return tokenizer, codec


def _check_end(tokenizer: PreTrainedTokenizerFast, what: str, name: str) -> None:
    """A special token in front shifts nothing; one behind stands where the next class is said."""
    plain = tokenizer.encode("Okay, so", add_special_tokens=False)
    whole = tokenizer.encode("Okay, so")
    if whole[-1:] != plain[-1:]:
        token = tokenizer.convert_ids_to_tokens(whole[-1])
        raise ModelError(
            f"the tokenizer beside {what} {name!r} appends the special token {token!r} to every "
            "text, but a boundary predictor says at the last token of a text what comes next; "
            "take a base model whose tokenizer appends nothing (a plain language model, not an "
            "embedding model)"
        )


def check_labels(config: PreTrainedConfig, name: str, *, what: str) -> None:
    """Whether the labels are those of a boundary predictor.

    Raises:
        ModelError: They are not two, or the wrong way round.
    """
    labels = [str(label) for label in (config.id2label or {}).values()]
    if len(labels) != 2:
        raise ModelError(
            f"{what} {name!r} has {len(labels)} labels ({', '.join(labels)}); it must have two: "
            "0 capability, 1 style"
        )
    if "style" in labels[1 - STYLE].lower():
        raise ModelError(
            f"{what} {name!r} calls label 0 {labels[0]!r} and label 1 {labels[1]!r}; label 1 must "
            "be style"
        )


@torch.inference_mode()
def check_causal(model: PreTrainedModel, name: str, *, what: str) -> None:
    """Change later tokens and see whether the outputs before them move.

    Args:
        model: A token classifier in evaluation mode.
        name: Its folder or hub id.
        what: What it is, for the message.

    Raises:
        ModelError: They move.
    """
    first = list(range(1, _PROBE_TOKENS + 1))
    half = _PROBE_TOKENS // 2
    other = first[:half] + first[: _PROBE_TOKENS - half]
    ids = torch.tensor([first, other], device=model.device)
    before, after = model(input_ids=ids, use_cache=False).logits[:, :half].float()
    change = float((before - after).abs().max() / before.abs().max().clamp_min(1e-12))
    if not change <= _CAUSAL_TOLERANCE.get(model.dtype, _HALF_CAUSAL_TOLERANCE):
        raise ModelError(
            f"{what} {name!r} is not causal: its outputs at earlier tokens change by {change:.2g} "
            "when later tokens do; train a causal model (Qwen3, Llama, …) instead"
        )
