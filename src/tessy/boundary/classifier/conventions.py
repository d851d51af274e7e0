"""What a checkpoint says of itself in its config.json, under the key ``tessy_predictor``.

The released checkpoints say nothing there; they follow the conventions this module requires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

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
    # A later version may say more; what it says differently changes the schema's number.
    model_config = ConfigDict(frozen=True, extra="ignore")


class WindowSettings(_Part):
    """Windows it was trained for, in tokens (:class:`WindowRule`)."""

    limit: int = Field(ge=2)
    keep: int = Field(ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        # What stays and the longest piece behind it must fit in.
        if self.keep + WindowRule(self.limit).piece_tokens > self.limit:
            raise ValueError(f"keep = {self.keep} is more than half of limit = {self.limit}")
        return self


class SplitSettings(_Part):
    """Which questions it has seen (:func:`~tessy.boundary.training.split.part_of`)."""

    seed: int
    validation_share: float
    test_share: float


class AnnotationSource(_Part):
    """What it was trained on.

    Attributes:
        digest: Of the rows, in the order of their keys.
        segments: Their number.
        annotator: Who marked the style: a model's name or a rule; None if that is not known.
    """

    digest: str
    segments: int
    annotator: str | None


class Conventions(_Part):
    """The value of the key; ``base`` is what training started from, ``versions`` by package."""

    # `schema` is a method of pydantic's models.
    schema_version: int = Field(default=SCHEMA, alias="schema")
    author: Author
    labels: dict[str, str] = dict(LABELS)
    shift: int = SHIFT
    window: WindowSettings
    split: SplitSettings
    annotations: AnnotationSource
    base: str
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """What stands in config.json."""
        return self.model_dump(by_alias=True)


def read_conventions(config: PreTrainedConfig, name: str) -> Conventions | None:
    """The conventions in a checkpoint's config; None if it has none.

    Args:
        config: A transformers config.
        name: The checkpoint's, for messages.

    Raises:
        ModelError: They are not those that tessy follows.
    """
    found = getattr(config, KEY, None)
    if found is None:
        return None
    said = found if isinstance(found, Mapping) else {}
    fixed = {"schema": SCHEMA, "shift": SHIFT, "labels": LABELS}
    for key, wanted in fixed.items():
        if said.get(key) != wanted:
            raise ModelError(
                f"the boundary predictor {name!r} follows other conventions: its config.json has "
                f"{KEY}.{key} = {said.get(key)!r}, and tessy reads {wanted!r}; use the version of "
                "tessy it was made with, or train it anew"
            )
    try:
        return Conventions.model_validate(said)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, (KEY, *fault["loc"])))
        raise ModelError(
            f"the boundary predictor {name!r} has an unusable config.json: {where}: "
            f"{fault['msg'].lower()}; train it anew, or take its config.json from its source"
        ) from error


def conventions_of(spec: str) -> Conventions | None:
    """What a checkpoint says of its training; None if it does not.

    Args:
        spec: A local folder or a hub id.

    Raises:
        ModelError: It has no config, or follows other conventions.
    """
    from transformers import AutoConfig  # takes seconds to import

    from tessy.inference.local.model import model_name, why_unloadable  # imports torch

    try:
        config = AutoConfig.from_pretrained(model_name(spec), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"cannot read the boundary predictor {spec!r}: {why_unloadable(spec, error)}; name "
            "`lexicon`, module:callable, or a checkpoint (a local folder or a hub id; "
            "`evaluate-predictor` takes `sentence`, too)"
        ) from error
    return read_conventions(config, spec)


def window_rule(config: PreTrainedConfig, conventions: Conventions | None) -> WindowRule:
    """Windows as in training, 512 tokens if that is not known, or what the model can hold.

    Args:
        config: A transformers config.
        conventions: What it says of its training.
    """
    rule = WindowRule()
    if conventions is not None:
        rule = WindowRule(conventions.window.limit, conventions.window.keep)
    positions = position_limit(config)
    return rule if positions is None else shortened(rule, positions)


def shortened(rule: WindowRule, limit: int) -> WindowRule:
    """``rule`` with windows of ``limit`` tokens at most, its proportions kept."""
    if limit >= rule.limit:
        return rule
    return WindowRule(limit, limit * rule.keep // rule.limit)


def position_limit(config: PreTrainedConfig) -> int | None:
    """How many tokens a model can hold by its config; None if it does not say."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None
