"""The tokenizer of the model that rows of a run are written for, checked against the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tessy.core.errors import ModelError, RunError
from tessy.data.export.provenance import RoleProvenance, role_of
from tessy.data.export.tokens import StudentFormat
from tessy.synthesis.setup import formats
from tessy.tokenization.families import load_renderer


def load_format(document: Mapping[str, Any], tokenizer: str | None) -> tuple[StudentFormat, str]:
    """Return the format of a run's rows.

    Args:
        document: The run's config.json.
        tokenizer: Where it is, if not where the run had it.

    Returns:
        The format, and the digest of tokenizer and chat template that the run recorded.

    Raises:
        RunError: The run does not say which tokenizer its rows have.
        ModelError: The tokenizer is not at hand, is another one, or needs code of its own.
    """
    data = document["data_config"]
    role = role_of(data)
    recorded = data.get(f"{role.author}.format")
    name = tokenizer or data.get(f"{role.prefix}tokenizer") or data.get(f"{role.prefix}model")
    if isinstance(recorded, str) and not isinstance(name, str):
        raise RunError(
            f"the run's config.json does not name the tokenizer of the {role.author}, since the "
            "runs it was made of differ in the name; give it with --tokenizer"
        )
    if not isinstance(recorded, str) or not isinstance(name, str):
        raise RunError(
            f"the run's config.json does not say which tokenizer the {role.author} has: it was "
            "made of runs with different ones, or by no command of this version; export to "
            "messages, and let your trainer tokenize"
        )
    if data.get(f"{role.prefix}trust_remote_code"):
        raise ModelError(
            f"the tokenizer {name!r} was loaded with trust_remote_code, and export runs no code on "
            "the word of a file; export to messages, and let your trainer tokenize"
        )
    renderer = load_renderer(name, reasoning_effort=_effort(document, role))
    if formats({role.author: renderer})[f"{role.author}.format"] != recorded:
        raise ModelError(
            f"the tokenizer {name!r} is not the one the run was made with (its vocabulary or its "
            "chat template differs), so the ids would mean other text; name the right one with "
            "--tokenizer"
        )
    return StudentFormat.of(renderer, role.author, alone=role.alone), recorded


def _effort(document: Mapping[str, Any], role: RoleProvenance) -> str:
    """The effort in the role's prompts; a model that wrote nothing has it among all options."""
    options = document.get("config", {})
    options = options if role.alone else options.get(role.author, {})
    own = options.get("reasoning_effort", "high") if isinstance(options, Mapping) else "high"
    return str(document["data_config"].get(f"{role.prefix}reasoning_effort", own))
