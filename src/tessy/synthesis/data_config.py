"""The options that decide what a row says.

A run is resumed only while they stay the same (config.json, ``data_config``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from tessy.config.base import RunOptions
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import ConfigError
from tessy.core.records import AUTHORS
from tessy.synthesis.strategies.registry import (
    all_strategies,
    generating_models,
    strategy_of,
)

# Options on where, how fast and how often samples are made.
_NOT_DATA = frozenset(
    {
        "problems",
        "out",
        "samples_per_problem",
        "limit",
        "concurrency",
        "attempts",
        "skip_bad_rows",
        "fresh",
        "retry_failed",
        "server_patience_seconds",
        "budget_hours",
        "budget_tokens",
        "url",
        "api_key_env",
        "force_thinking",
    }
)


def data_config(config: RunOptions) -> dict[str, Any]:
    """Return the options that decide what a row says.

    Args:
        config: Options of a synthesis, or of sampling one model.

    Returns:
        JSON values by dotted name, e.g. ``{"cut": "discard", "student.sampling.top_k": 20, …}``. A
        lexicon file is represented by the SHA-256 of its content. Options of a synthesis that its
        strategy does not read are left out, and so is the default strategy.

    Raises:
        ConfigError: The lexicon file cannot be read.
    """
    flat = dict(_flatten(config.model_dump(mode="json"), ""))
    if not isinstance(config, SynthesisOptions):
        return flat
    if strategy_of(config).in_turns and config.lexicon is not None:
        try:
            content = config.lexicon.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"lexicon: cannot read {config.lexicon} ({error.strerror}); give a text file "
                "with one phrase per line, or leave the option out"
            ) from error
        flat["lexicon"] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {name: value for name, value in flat.items() if _is_read(config, name, value)}


def data_names(*models: type[BaseModel]) -> frozenset[str]:
    """Return the names that :func:`data_config` can give to options of ``models``."""
    return frozenset(name for model in models for name in _data_names(model, ""))


def _data_names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in _NOT_DATA:
            continue
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _data_names(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _is_read(config: SynthesisOptions, name: str, value: object) -> bool:
    """Return whether an option other than its default can change what this strategy writes."""
    strategy = strategy_of(config)
    role, _, rest = name.partition(".")
    if name in _DEFAULTS:
        return value not in _DEFAULTS[name]
    if any(name in other.options for other in all_strategies().values()):
        return name in strategy.options
    if strategy.in_turns:
        return True
    if name in ("cut", "lexicon") or rest in ("predictor", "window", "draft_tokens"):
        return False
    # Rows are always in the student's format.
    return role not in AUTHORS or role in generating_models(config) or rest in _FORMAT[role]


# Values of options that are left out, as in runs of versions that did not have these options.
_DEFAULTS: Mapping[str, tuple[object, ...]] = {
    "strategy": ("tessy",),
    "answer_by": (None, "student"),
    "system_prompt": (None,),
}
# What is read of a role that writes nothing.
_FORMAT: Mapping[str, tuple[str, ...]] = {"student": ("model", "tokenizer"), "teacher": ()}


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if name in _NOT_DATA:
            continue
        # `fields` is a map of the user's, not a part of the configuration: it stays whole.
        if isinstance(value, dict) and name != "fields":
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
