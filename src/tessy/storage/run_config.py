"""config.json of a directory of rows: its options, and the check that a resume uses the same."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from tessy.core.errors import RunError
from tessy.core.records import SCHEMA_VERSION
from tessy.storage import jsonl
from tessy.storage.jsonl import KeyOf

KeyT = TypeVar("KeyT", bound=Hashable)
RowT = TypeVar("RowT", bound=BaseModel)
FailureT = TypeVar("FailureT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryKind:
    """A kind of directory with recorded options.

    ``added`` are options missing from the data_config of older directories, by dotted name
    (``student.window``), with the value that reproduces the behaviour before the option existed,
    whatever its present default. ``renamed`` are present names of options by former names.
    """

    name: str  # `rows` in config.json; of rows, the stem of their file: trajectories
    directory: str  # noun for the directory in messages: run
    made_by: str  # which commands create such directories, as a sentence without a full stop
    added: Mapping[str, object] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind(DirectoryKind, Generic[KeyT, RowT, FailureT]):
    """A kind of rows: what a directory holds, and how its rows are read."""

    row: type[RowT]
    failure: type[FailureT]  # a row of failures.jsonl
    key_of: KeyOf[KeyT]


AnyRowKind = RowKind[Any, Any, Any]


def read(path: Path, kind: DirectoryKind) -> dict[str, Any]:
    """Read config.json, with options under their present names; RunError if it is unusable."""
    try:
        document = jsonl.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise _not_a_directory_of(kind, path, f"it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}; restore it from a copy") from None
    if not isinstance(document, dict) or "schema" not in document:
        raise _not_a_directory_of(kind, path, f"its {path.name} has another format")
    if document["schema"] != SCHEMA_VERSION:
        raise RunError(
            f"{path}: schema version {document['schema']!r}, but this tessy reads "
            f"{SCHEMA_VERSION}; use the version of tessy that created the run"
        )
    _check_rows(path, document, kind)
    document = {"rows": kind.name, "data_config": {}, "resumed": [], **document}
    renamed = kind.renamed
    data = document["data_config"]
    document["data_config"] = {renamed.get(name, name): value for name, value in data.items()}
    for session in (document, *document["resumed"]):
        for old, new in renamed.items():
            _move(session.get("config", {}), old.split("."), new.split("."))
    return document


def _not_a_directory_of(kind: DirectoryKind, path: Path, why: str) -> RunError:
    """Return the error for a folder of another kind, with advice for other folders of tessy."""
    folder = path.parent
    if not folder.exists():
        return RunError(f"there is no folder {folder}; check the path: {kind.made_by}")
    advice = f"check the path: {kind.made_by}"
    runs = [found.parent.name for found in folder.glob("checkpoint-*/config.json")]
    if (folder / "sft.json").is_file():
        why = "it is a model that `tessy sft` wrote"
        advice = f"`tessy evaluate --model {folder}` evaluates it; {kind.made_by}"
    elif (folder / "scores.json").is_file() and runs:
        why = "it holds a run of `tessy evaluate` for each checkpoint"
        advice = f"pass one of them, such as {folder / min(runs, key=len)}"
    return RunError(f"{folder} is not a {kind.directory}: {why}; {advice}")


def prompt_date(document: Mapping[str, Any]) -> datetime.date | None:
    """Return the date that prompts of a run state, of an older run the day of its creation.

    None for a run that is derived from runs of different dates.
    """
    data = document["data_config"]
    date = data.get("date") or (None if "derived" in data else document.get("created"))
    try:
        return datetime.date.fromisoformat(str(date)[:10]) if date else None
    except ValueError:
        raise RunError(
            f"config.json: expected a date in `date` or `created`, got {date!r}; restore the file"
        ) from None


def traces_of(document: Mapping[str, Any]) -> list[str]:
    """Return the option ``traces`` of the sessions of a run, without repetitions."""
    sessions = (document, *document.get("resumed", ()))
    given = (session.get("config", {}).get("traces") for session in sessions)
    return list(dict.fromkeys(path for path in given if path is not None))


def _move(options: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Move a value of nested ``options`` if it exists."""
    source = options
    for name in old[:-1]:
        source = source.get(name, {})
    if old[-1] not in source:
        return
    value = source.pop(old[-1])
    for name in new[:-1]:
        options = options.setdefault(name, {})
    options[new[-1]] = value


def check_kind(path: Path, kind: DirectoryKind) -> None:
    """Raise RunError if a directory about to be replaced has rows of another kind."""
    with contextlib.suppress(OSError, ValueError):  # an unreadable file may be replaced
        document = jsonl.loads(path.read_bytes())
        if isinstance(document, dict):
            _check_rows(path, document, kind)


def _check_rows(path: Path, document: dict[str, Any], kind: DirectoryKind) -> None:
    rows = document.get("rows", "trajectories")
    if rows == kind.name:
        return
    if rows == "lab":
        raise RunError(
            f"{path.parent} is an experiment of `tessy lab`, whose page is lab.html; {kind.made_by}"
        )
    raise RunError(f"{path.parent} holds {rows}, not {kind.name}; {kind.made_by}")


def open_config(
    path: Path,
    kind: DirectoryKind,
    provenance: dict[str, Any],
    data: dict[str, Any],
    has_started: Callable[[], bool],
    known: Collection[str] | None = None,
) -> dict[str, Any]:
    """Write config.json of a new directory, or check that of an existing one; return its content.

    ``provenance`` contains options and versions to record, ``data`` (flat dotted keys) the options
    that decide the content of rows. ``has_started`` returns whether the directory has rows or
    samples in flight. RunError as for :func:`check_same`.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    provenance = {"tessy": importlib.metadata.version("tessy"), **provenance}
    document = read(path, kind) if path.exists() else None
    # A run without any rows, e.g. because of a misspelt option, may be restarted with others.
    recorded = document["data_config"] if document is not None else {}
    if document is not None and (has_started() or recorded == data or "derived" in recorded):
        check_same(path.parent, document, data, kind, known)
        last = [document, *document["resumed"]][-1]
        if all(last.get(name) == value for name, value in provenance.items()):
            return document
        document["resumed"].append({"at": now, **provenance})
    else:
        canonical = json.dumps(data, sort_keys=True).encode()
        document = {
            "schema": SCHEMA_VERSION,
            "rows": kind.name,
            "created": now,
            **provenance,
            "data_digest": hashlib.sha256(canonical).hexdigest(),
            "data_config": data,
            "resumed": [],  # sessions with other options or versions than the first
        }
    jsonl.write_json(path, document)
    return document


def check_same(
    directory: Path,
    document: Mapping[str, Any],
    now: dict[str, Any],
    kind: DirectoryKind,
    known: Collection[str] | None = None,
    later: Collection[str] = (),
) -> None:
    """Raise RunError if the options ``now``, but for ``later``, differ from those recorded.

    ``known`` lists the options of this version; None accepts any recorded option.
    """
    recorded = {name: value for name, value in document["data_config"].items() if name not in later}
    date = prompt_date(document)
    added = {**kind.added, "date": date and date.isoformat()}
    derived = recorded.get("derived")
    newer = sorted(recorded.keys() - known) if known is not None and not derived else []
    if newer:
        raise RunError(
            f"{directory} was created by a newer tessy: this version lacks the options "
            f"{', '.join(newer)} of its config.json; resume it with that version, or choose "
            "another --out"
        )
    if isinstance(derived, dict) and "derived" not in now:
        # Nearly all other options differ too; listing them would hide the cause.
        raise RunError(
            f"{directory} is a {derived.get('by')} of other runs, and no samples can be added to "
            "it; choose another --out"
        )
    before = {name: value for name, value in added.items() if name in now} | recorded
    missing = object()
    differing = [
        f"  {name}: {_shown(before, name)}, now {_shown(now, name)}\n"
        for name in sorted({*before, *now})
        if before.get(name, missing) != now.get(name, missing)
    ]
    if differing:
        raise RunError(
            f"{directory} was created with other options:\n{''.join(differing)}"
            "use the same options, choose another --out, or pass --fresh to move the run to "
            f"{directory}.old-1 and start over"
        )


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "(not set)"
