"""Provenance of a run for publication, with names instead of paths and URLs (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from tessy.config.base import Config
from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.records import Author
from tessy.storage import jsonl
from tessy.storage.cards import short_digest
from tessy.storage.run_config import traces_of
from tessy.storage.sources import hub_name


@dataclass(frozen=True, slots=True)
class RoleProvenance:
    """Role whose chat format the rows of a run have."""

    author: Author  # the student, or the author of a run of ``tessy sample``
    prefix: str  # of its options in config.json
    alone: bool  # whether it wrote everything


def role_of(data: Mapping[str, Any]) -> RoleProvenance:
    """Return the role whose chat format the rows of a run with the ``data_config`` have."""
    if data.get("command") == "sample":
        author: Author = "teacher" if data.get("author") == "teacher" else "student"
        return RoleProvenance(author, "", alone=True)
    return RoleProvenance("student", "student.", alone=False)


def public(value: str) -> str:
    """Return the last part of a path; ids and data sets of Hugging Face stay unchanged."""
    if (name := hub_name(value)) is not None:
        return name
    local = value.startswith(("/", "~", ".")) or value.count("/") > 1 or "\\" in value
    return PurePath(value.replace("\\", "/")).name if local else value


def command_line(document: Mapping[str, Any]) -> str:
    """Return the command that reproduces the run with the config.json ``document``.

    Includes the options that affect its samples, except default values. For a derived run, these
    are the options that its sources share.
    """
    data = document["data_config"]
    sampled = data.get("command") == "sample"
    command = ["tessy", "sample" if sampled else "synthesize"]
    problems = document.get("config", {}).get("problems")
    if problems:
        names = [problems] if isinstance(problems, str) else problems
        command += ["--problems", *map(public, names)]
    if traces := _own_traces(document):
        command += ["--traces", traces[-1]]
    defaults = dict(_defaults(SampleConfig if sampled else SynthesizeConfig))
    for name, value in data.items():
        if name in defaults and value is not None and value != defaults[name]:
            command += _option(name, value)
    return shlex.join(command)


def trace_sources(document: Mapping[str, Any]) -> list[str]:
    """Return the names of the runs, files and data sets with the traces of a run or its sources."""
    names = _own_traces(document)
    derived = document["data_config"].get("derived", {})
    pending = [*derived.get("sources", ())]
    while pending:
        source = pending.pop(0)
        names += map(_source_name, source.get("traces", ()))
        pending += source.get("derived", {}).get("sources", ())
    return list(dict.fromkeys(names))


def _own_traces(document: Mapping[str, Any]) -> list[str]:
    return [_source_name(path) for path in traces_of(document)]


def _source_name(path: str) -> str:
    return hub_name(path) or PurePath(path.replace("\\", "/")).name or path


def sources(data: Mapping[str, Any], indent: str = "") -> str:
    """Return the sources of a derived run as a Markdown list; empty for other runs."""
    lines = ""
    for source in data.get("derived", {}).get("sources", ()):
        deeper = source.get("derived")
        by = f", created by `tessy {deeper['by']}` from:" if deeper else ""
        digest = short_digest(source.get("data_digest"))
        name = PurePath(source["path"]).name
        lines += f"{indent}- `{name}` (digest of the options: {digest}){by}\n"
        lines += sources(source, indent + "  ")
    return lines


def notes(value: object) -> str:
    """Return the notes of a derived run on one line: ``ratio 1:1; taken: first 3, …``."""
    if not isinstance(value, Mapping):
        return _plain(value)
    return "; ".join(
        f"{name}: {_flat(inner)}" if isinstance(inner, Mapping) else f"{name} {_plain(inner)}"
        for name, inner in value.items()
    )


def _flat(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items()) or "none"


def _plain(value: object) -> str:
    if isinstance(value, str):
        return public(value)
    if isinstance(value, Mapping):
        return f"({_flat(value)})"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    return jsonl.dumps(value).decode()


def _option(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{name.replace('_', '-')}"]
    if isinstance(value, Mapping):
        return [flag, ",".join(f"{key}={inner}" for key, inner in value.items())]
    if isinstance(value, str) and name != "system_prompt":
        value = public(value)
    return [flag, str(value)]


def _defaults(cls: type[Config], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted name and default of every option, as JSON values."""
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Config):
            yield from _defaults(annotation, f"{prefix}{name}.")
        elif field.is_required():
            yield f"{prefix}{name}", None
        else:
            yield f"{prefix}{name}", jsonl.plain(field.get_default(call_default_factory=True))
