"""Loading a token classifier, and its forward pass over whole windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
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


class PlainScorer:
    """Scores whole windows without a cache, all windows of a call in one right-padded batch.

    It is a :class:`~tessy.boundary.classifier.reader.WindowModel` without any state.
    """

    def __init__(self, model: PreTrainedModel, limit: int) -> None:
        self.model = model
        self.step_tokens = limit  # of the longest window

    @torch.inference_mode()
    def score(self, windows: Sequence[Sequence[int]]) -> list[Sequence[float]]:
        """Return P(style) of what follows each token of each window.

        The model is causal, so padding on the right needs no mask.
        """
        ids = pad_sequence([torch.tensor(window) for window in windows], batch_first=True)
        logits = self.model(input_ids=ids.to(self.model.device), use_cache=False).logits
        style = torch.softmax(logits.float(), -1)[..., STYLE].tolist()
        return [row[: len(window)] for row, window in zip(style, windows, strict=True)]

    def new(self) -> None:
        """Return None: there is no state."""

    def reserve(self, state: None, count: int) -> bool:
        """Return True: no memory is needed."""
        return True

    def rollback(self, state: None, length: int) -> int:
        """Return 0: no tokens are kept."""
        return 0

    def forward(self, members: Sequence[tuple[None, Sequence[int]]]) -> list[Sequence[float]]:
        """Read whole windows; return P(style) of what follows each token."""
        return self.score([new for _, new in members])


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
    what = f"the boundary predictor {name!r}"
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        check_labels(config, what)
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
            f"cannot load {what}: {why_unloadable(name, error)}; it must "
            "be a transformers token classifier with safetensors weights (a local folder or a hub "
            "id)"
        ) from error
    missing = sorted(loading["missing_keys"]) + sorted(loading["mismatched_keys"])
    if missing:
        raise ModelError(
            f"{what} has no weights for {', '.join(map(str, missing))}; "
            "it is not a trained token classifier (perhaps a base model)"
        )
    _, codec = load_tokenizer(name, vocabulary_size(model), what)
    check_causal(model, what)
    rule = window_rule(config, conventions)
    author = conventions.author if conventions is not None else None
    return Classifier(PlainScorer(model, rule.limit), codec, rule, author)
