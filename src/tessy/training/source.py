"""The data of a fine-tuning: a run, which is exported first, or an exported file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tessy.config.data import ExportConfig
from tessy.config.training import SftConfig
from tessy.core.errors import ConfigError, InputError, ModelError
from tessy.data.export.command import export
from tessy.data.export.provenance import role_of
from tessy.data.export.tokens import parse_loss
from tessy.storage.run_reader import read_config
from tessy.synthesis.setup import formats
from tessy.tokenization.families import (
    can_find_tokenizer,
    is_path,
    load_renderer,
    why_not_found,
)
from tessy.training.token_file import read_metadata


@dataclass(frozen=True, slots=True)
class Source:
    """Where the token ids come from."""

    path: Path
    is_run: bool
    loss: str
    model: str  # to fine-tune: a local folder or a hub id
    format: object  # digest of tokenizer and chat template of the data; None if not recorded


def read_source(options: SftConfig) -> Source:
    """Find out what ``options.data`` is and which model it is for, without reading rows.

    Raises:
        InputError: It is neither a run nor an exported file of token ids, the loss is invalid or
            another one than in the file, or no model is named.
    """
    path = options.data.expanduser()
    metadata: dict[str, Any] = {}
    if path.is_dir():
        data = read_config(path)["data_config"]
        role = role_of(data)
        loss = options.loss or "all"
        parse_loss(loss)
        model, recorded = data.get(f"{role.prefix}model"), data.get(f"{role.author}.format")
    elif path.is_file():
        metadata = read_metadata(path)
        loss, model, recorded = metadata["loss"], _model(path, metadata), metadata["format_digest"]
        if options.loss is not None and parse_loss(options.loss) != metadata["weights"]:
            raise ConfigError(
                f"--loss {options.loss}: {path} was exported with --loss {loss}; leave the option "
                "out, or pass the run instead of the file"
            )
    else:
        raise InputError(
            f"there is no {path}; pass a run directory, or a file of `tessy export --to tokens`"
        )
    name = options.model or model
    if not isinstance(name, str):
        folder = metadata.get("model_folder")
        why = f"names a student that is not there ({folder})" if folder else "names no student"
        raise InputError(f"{path} {why}; pass its folder or hub id with --model")
    return Source(path, path.is_dir(), loss, name, recorded)


def _model(path: Path, metadata: Mapping[str, Any]) -> object:
    """Return the student of an exported file: a hub id, or its folder if that exists."""
    folder = metadata.get("model_folder")
    if not isinstance(folder, str):
        return metadata.get("model")
    found = (path.parent / folder).resolve()
    return str(found) if found.is_dir() else None


def check_tokenizer(source: Source) -> None:
    """Refuse a model whose tokenizer or chat template is not that of the data."""
    name = source.model
    if not is_path(name) and not (found := can_find_tokenizer(name)):
        raise ModelError(
            f"the model {name!r} was not found: there is no such folder, and "
            f"{why_not_found(found)}; pass the student's folder or hub id with --model"
        )
    renderer = load_renderer(name, force_thinking=True)
    if source.format is not None and formats({"student": renderer})["student.format"] != (
        source.format
    ):
        raise ModelError(
            f"the model {name!r} has another vocabulary or chat template than the data in "
            f"{source.path}, so its token ids do not match; pass the student of that data with "
            "--model"
        )


def export_tokens(source: Source, path: Path) -> None:
    """Write the token ids of a run to ``path``; raises like the export."""
    config = ExportConfig(
        run=source.path, to="tokens", out=path, loss=source.loss, tokenizer=source.model
    )
    with Path(os.devnull).open("w") as nowhere:
        export(config, Console(file=nowhere))


def provenance(metadata: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return what the model's files say about the data: its run, authors and loss."""
    names = ("run", "run_digest", "strategies", "tokens_by_author", "loss", "weights")
    return {name: metadata.get(name) for name in names} | {"digest": digest}
