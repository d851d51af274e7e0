"""Metadata of a checkpoint in its config.json, under the key ``tessy_predictor``.

The released checkpoints have no such key; they follow the conventions required here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tessy.boundary.classifier.labels import SHIFT
from tessy.boundary.classifier.window import WindowRule
from tessy.core.errors import ModelError
from tessy.core.records import Author

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import PreTrainedConfig

KEY = "tessy_predictor"
SCHEMA = 1
LABELS: Mapping[str, str] = {"0": "capability", "1": "style"}


class _Part(BaseModel):
    # Later versions may add fields; an incompatible change increments the schema number.
    model_config = ConfigDict(frozen=True, extra="ignore")


class WindowSettings(_Part):
    """Length of the windows in training, in tokens (:class:`WindowRule`)."""

    limit: int = Field(ge=2)
    keep: int = Field(ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        # The tokens kept and the longest piece after them must fit.
        if self.keep + WindowRule(self.limit).piece_tokens > self.limit:
            raise ValueError(f"keep = {self.keep} is more than half of limit = {self.limit}")
        return self


class SplitSettings(_Part):
    """The split of problems in training (:func:`~tessy.boundary.training.dataset.part_of`)."""

    seed: int
    validation_share: float
    test_share: float


class AnnotationSource(_Part):
    """The training data."""

    digest: str  # of the rows, in the order of their keys
    segments: int
    annotator: str | None  # name of the model or rule that marked the style; None if unknown


class Conventions(_Part):
    """The value of the key ``tessy_predictor``."""

    # Aliased, since `schema` is a method of pydantic models.
    schema_version: int = Field(default=SCHEMA, alias="schema")
    author: Author  # of the text it was trained on
    labels: dict[str, str] = dict(LABELS)
    shift: int = SHIFT  # tokens between an output and the token it classifies
    window: WindowSettings
    split: SplitSettings
    annotations: AnnotationSource
    base: str  # name of the base model
    versions: dict[str, str]  # of packages, by name


def read_conventions(config: PreTrainedConfig, name: str) -> Conventions | None:
    """Return the conventions in the config of the checkpoint ``name``; None if it has none."""
    value = getattr(config, KEY, None)
    if value is None:
        return None
    raw = value if isinstance(value, Mapping) else {}
    fixed = {"schema": SCHEMA, "shift": SHIFT, "labels": LABELS}
    for key, wanted in fixed.items():
        if raw.get(key) != wanted:
            raise ModelError(
                f"the boundary predictor {name!r} follows other conventions: its config.json has "
                f"{KEY}.{key} = {raw.get(key)!r}, and tessy supports {wanted!r}; use the version "
                "of tessy that trained it, or train it again"
            )
    try:
        return Conventions.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, (KEY, *fault["loc"])))
        raise ModelError(
            f"the boundary predictor {name!r} has an unusable config.json: {where}: "
            f"{fault['msg'].lower()}; train it again, or restore its original config.json"
        ) from error


def conventions_of(spec: str) -> Conventions | None:
    """Read the conventions of a checkpoint (local folder or hub id); None if it has none."""
    from transformers import AutoConfig  # takes seconds to import

    from tessy.inference.local.model import model_name, why_unloadable  # imports torch

    try:
        config = AutoConfig.from_pretrained(model_name(spec), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"cannot read the boundary predictor {spec!r}: {why_unloadable(spec, error)}; give "
            "`lexicon`, module:callable, or a checkpoint (a local folder or a hub id; "
            "`evaluate-predictor` accepts `sentence` too)"
        ) from error
    return read_conventions(config, spec)


def window_rule(config: PreTrainedConfig, conventions: Conventions | None) -> WindowRule:
    """Return the windows of a checkpoint: as in training, within the model's position limit."""
    rule = WindowRule()
    if conventions is not None:
        rule = WindowRule(conventions.window.limit, conventions.window.keep)
    positions = position_limit(config)
    return rule if positions is None else rule.scaled(min(positions, rule.limit))


def position_limit(config: PreTrainedConfig) -> int | None:
    """Return the maximum sequence length in a model's config, in tokens; None if not given."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None
