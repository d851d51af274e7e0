"""Loading a token classifier, and its forward pass over whole windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedModel

from tessy.boundary.classifier.checkpoint import check_causal, check_labels, load_tokenizer
from tessy.boundary.classifier.conventions import read_conventions, window_rule
from tessy.boundary.classifier.labels import STYLE
from tessy.boundary.classifier.window import WindowRule
from tessy.core.errors import ModelError
from tessy.core.records import Author
from tessy.inference.local.model import (
    LOADING_ERRORS,
    hide_loading_bar,
    model_name,
    pick_device,
    quiet_loading,
    vocabulary_size,
    why_unloadable,
    working_dtype,
)
from tessy.tokenization.codec import HfCodec

_WHAT = "the boundary predictor"


class PlainScorer:
    """Scores whole windows without a cache, all windows of a call in one right-padded batch."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @torch.inference_mode()
    def score(self, windows: Sequence[Sequence[int]]) -> list[Sequence[float]]:
        """Return P(style) of what follows each token of each window.

        The model is causal, so padding on the right needs no mask.
        """
        longest = max(map(len, windows))
        padded = [[*window, *[0] * (longest - len(window))] for window in windows]
        ids = torch.tensor(padded, device=self.model.device)
        logits = self.model(input_ids=ids, use_cache=False).logits
        style = torch.softmax(logits.float(), -1)[..., STYLE].tolist()
        return [row[: len(window)] for row, window in zip(style, windows, strict=True)]


@dataclass(frozen=True, slots=True)
class Classifier:
    """A loaded checkpoint."""

    scorer: PlainScorer
    codec: HfCodec
    rule: WindowRule  # length of its windows
    author: Author | None  # of the text it was trained on; None if unknown


def load_classifier(path: str | Path, *, device: str | None = None) -> Classifier:
    """Load and check a checkpoint.

    Raises:
        ModelError: It is not a causal two-label token classifier with its own tokenizer.
    """
    name = model_name(path)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        check_labels(config, name, what=_WHAT)
        conventions = read_conventions(config, name)
        target = pick_device(device)
        hide_loading_bar()
        with quiet_loading():
            model, loading = AutoModelForTokenClassification.from_pretrained(
                name,
                dtype=working_dtype(target),
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
        torch.nn.Module.to(model, target)
        torch.nn.Module.eval(model)
    except LOADING_ERRORS as error:
        raise ModelError(
            f"cannot load the boundary predictor {name!r}: {why_unloadable(name, error)}; it must "
            "be a transformers token classifier with safetensors weights (a local folder or a hub "
            "id)"
        ) from error
    missing = sorted(loading["missing_keys"]) + sorted(loading["mismatched_keys"])
    if missing:
        raise ModelError(
            f"the boundary predictor {name!r} has no weights for {', '.join(map(str, missing))}; "
            "it is not a trained token classifier (perhaps a base model)"
        )
    _, codec = load_tokenizer(name, vocabulary_size(model), what=_WHAT)
    check_causal(model, name, what=_WHAT)
    rule = window_rule(config, conventions)
    author = conventions.author if conventions is not None else None
    return Classifier(PlainScorer(model), codec, rule, author)
