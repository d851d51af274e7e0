"""Chat format and tokenizer of the model that a run is for, checked against the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tessy.core.errors import ModelError, RunError
from tessy.data.export.provenance import RoleProvenance, role_of
from tessy.data.export.tokens import StudentFormat
from tessy.synthesis.setup import formats
from tessy.tokenization.families import load_renderer


def load_format(document: Mapping[str, Any], tokenizer: str | None) -> tuple[StudentFormat, str]:
    """Return the format of the rows of a run.

    Args:
        document: Content of the run's config.json.
        tokenizer: Folder or id of the tokenizer, if it differs from the run's.

    Returns:
        The format, and the digest of tokenizer and chat template in config.json.

    Raises:
        RunError: config.json does not name the tokenizer.
        ModelError: The tokenizer is unavailable, does not match the run, or requires remote code.
    """
    data = document["data_config"]
    role = role_of(data)
    recorded = data.get(f"{role.author}.format")
    name = tokenizer or data.get(f"{role.prefix}tokenizer") or data.get(f"{role.prefix}model")
    if isinstance(recorded, str) and not isinstance(name, str):
        raise RunError(
            f"the run's config.json does not name the tokenizer of the {role.author}, because the "
            "names differ between its source runs; pass it with --tokenizer"
        )
    if not isinstance(recorded, str) or not isinstance(name, str):
        raise RunError(
            f"the run's config.json has no digest of the tokenizer of the {role.author}: the "
            "tokenizers of its source runs differ, or another version created it; export with "
            "--to messages instead"
        )
    if data.get(f"{role.prefix}trust_remote_code"):
        raise ModelError(
            f"the tokenizer {name!r} requires trust_remote_code, which export does not support; "
            "export with --to messages instead"
        )
    # The run accepted the template, whatever it mentions.
    effort = _effort(document, role)
    renderer = load_renderer(name, reasoning_effort=effort, force_thinking=True)
    if formats({role.author: renderer})[f"{role.author}.format"] != recorded:
        raise ModelError(
            f"the tokenizer {name!r} differs from the run's in its vocabulary or chat template, so "
            "token ids would not match; pass the right one with --tokenizer"
        )
    return StudentFormat.of(renderer, role.author, alone=role.alone), recorded


def _effort(document: Mapping[str, Any], role: RoleProvenance) -> str:
    """Return the reasoning effort of the role, which data_config omits if it wrote nothing."""
    options = document.get("config", {})
    options = options if role.alone else options.get(role.author, {})
    own = options.get("reasoning_effort", "high") if isinstance(options, Mapping) else "high"
    return str(document["data_config"].get(f"{role.prefix}reasoning_effort", own))
