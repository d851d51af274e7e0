"""The options that determine the rows; they must stay the same when a run is resumed."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tessy.config.base import ModelConfig, RoleConfig, RunOptions
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import ConfigError, ModelError
from tessy.core.records import AUTHORS, Author
from tessy.synthesis.strategies.registry import (
    all_strategies,
    candidates,
    generating_models,
    strategy_of,
)

# Options on where, how fast and how often samples are generated.
_NOT_DATA = frozenset(
    {
        "problems",
        "traces",
        "split",
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
        "allow_classifier",
    }
)


WEIGHT_NAMES = frozenset({"weights", *(f"{author}.weights" for author in AUTHORS)})


def weight_digests(models: Mapping[Author, ModelConfig]) -> dict[str, str]:
    """Return digests of the weights in local folders of models in this process, by dotted name.

    A folder keeps its name when its weights are replaced, such as by another training.

    Raises:
        ModelError: A file cannot be read.
    """
    digests = {}
    for author, model in models.items():
        folder = Path(model.model).expanduser()
        if not model.url and folder.is_dir():
            name = f"{author}.weights" if isinstance(model, RoleConfig) else "weights"
            files = sorted(folder.glob("*.safetensors"))
            sums = [(file.name, _sha256(file)) for file in files]
            digests[name] = hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:16]
    return digests


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}; fix its permissions") from error


def data_config(config: RunOptions) -> dict[str, Any]:
    """Return the options that determine the rows, as JSON values by dotted name.

    A lexicon file is represented by the SHA-256 of its content. Options of a synthesis that its
    strategy does not read are left out, and so is the default strategy.

    Raises:
        ConfigError: The lexicon file cannot be read.
    """
    tree: Any = config.model_dump(mode="json")
    names = _data_names(type(config), "")
    flat = {name: reduce(operator.getitem, name.split("."), tree) for name in names}
    if not isinstance(config, SynthesisOptions):
        return flat
    strategy = strategy_of(config)
    flat["candidates"] = candidates(config)
    if "lexicon" in strategy.reads and config.lexicon is not None:
        try:
            content = config.lexicon.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"--lexicon: cannot read {config.lexicon} ({error.strerror}); give a text file "
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
    if any(name in other.reads for other in all_strategies().values()):
        return name in strategy.reads
    if strategy.in_turns:
        return True
    if strategy.reads_traces and name in _OF_TRACES:
        return True
    if rest in ("predictor", "window", "draft_tokens"):
        return False
    # Rows are always in the student's format.
    return role not in AUTHORS or role in generating_models(config) or rest in _FORMAT[role]


# Values of options that are left out, as in runs of versions that did not have these options.
_DEFAULTS: Mapping[str, tuple[object, ...]] = {
    "strategy": ("tessy",),
    "answer_by": (None, "student"),
    "system_prompt": (None,),
}
# Options of predictors and drafts that apply to strategies that split traces.
_OF_TRACES = frozenset({"student.predictor", "student.window", "student.draft_tokens"})
# Options that apply to a role whose model does not generate.
_FORMAT: Mapping[str, tuple[str, ...]] = {"student": ("model", "tokenizer"), "teacher": ()}
