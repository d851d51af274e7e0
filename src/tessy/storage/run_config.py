"""config.json of a directory of rows: how it was made, and with which options it is resumed."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tessy.core.errors import RunError
from tessy.core.records import SCHEMA_VERSION
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically

# Which command makes a directory with such rows, and which reads it.
_MADE_BY = {
    "trajectories": "`tessy synthesize` and `tessy sample` make such runs",
    "annotations": "`tessy annotate` makes one from a run of responses",
}


@dataclass(frozen=True, slots=True)
class History:
    """Changes of the options of one kind of rows, by dotted name (``student.window``).

    Attributes:
        added: Entries of data_config that older directories lack, and the value that stands for
            a missing one: the behaviour before the option existed. It stays as it is when the
            option's default changes.
        renamed: The present name of each former one.
    """

    added: Mapping[str, object] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


# An option that is added to data_config, or renamed, is entered here in the same commit.
HISTORY = {"trajectories": History(), "annotations": History()}


def read(path: Path, kind: str) -> dict[str, Any]:
    """Return the content of config.json, with options under their present names.

    Args:
        path: The file.
        kind: What the directory's rows shall be: ``trajectories`` or ``annotations``.

    Raises:
        RunError: There is none, it is of a directory of other rows, or this version cannot read it.
    """
    what = "run" if kind == "trajectories" else f"directory of {kind}"
    try:
        document = jsonl.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path.parent} is no {what}: it has no config.json; check the path: {_MADE_BY[kind]}"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}; put back a copy of it") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA_VERSION:
        found = document.get("schema") if isinstance(document, dict) else None
        raise RunError(
            f"{path}: schema version {found!r}, but this tessy reads {SCHEMA_VERSION}; use the "
            "version of tessy that made the run"
        )
    _check_kind(path, document, kind)
    document = {"rows": kind, "data_config": {}, "resumed": [], **document}
    _rename(document, HISTORY[kind].renamed)
    return document


def _rename(document: dict[str, Any], renamed: Mapping[str, str]) -> None:
    data = document["data_config"]
    document["data_config"] = {renamed.get(name, name): value for name, value in data.items()}
    for session in (document, *document["resumed"]):
        for old, new in renamed.items():
            _move(session.get("config", {}), old.split("."), new.split("."))


def _move(options: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Move a value of nested ``options``, if it is there."""
    source = options
    for name in old[:-1]:
        source = source.get(name, {})
    if old[-1] not in source:
        return
    value = source.pop(old[-1])
    for name in new[:-1]:
        options = options.setdefault(name, {})
    options[new[-1]] = value


def refuse_other(path: Path, kind: str) -> None:
    """Make sure that what is about to be replaced is not something else by mistake.

    Raises:
        RunError: config.json is of a directory of other rows.
    """
    with contextlib.suppress(OSError, ValueError):  # unreadable: it may well be replaced
        document = jsonl.loads(path.read_bytes())
        if isinstance(document, dict):
            _check_kind(path, document, kind)


def _check_kind(path: Path, document: dict[str, Any], kind: str) -> None:
    rows = document.get("rows", "trajectories")
    if rows != kind:
        raise RunError(f"{path.parent} holds {rows}, not {kind}; {_MADE_BY[kind]}")


def enter(
    path: Path,
    kind: str,
    made_with: dict[str, Any],
    data: dict[str, Any],
    begun: Callable[[], bool],
    known: Collection[str] | None = None,
) -> dict[str, Any]:
    """The content of config.json: written for a new directory, compared and kept for an old one.

    Args:
        path: The file.
        kind: What the directory's rows are.
        made_with: Options and versions, for the record.
        data: What decides on the content of rows, as flat dotted keys.
        begun: Whether the directory has rows, or some in the making.
        known: All names that this version may write into ``data``; None: no name is refused.

    Raises:
        RunError: The directory was made with other ``data``, or cannot be read.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made_with = {"tessy": importlib.metadata.version("tessy"), **made_with}
    document = read(path, kind) if path.exists() else None
    # A run that never started, e.g. because of a misspelled option, sets no options.
    then = document["data_config"] if document is not None else {}
    if document is not None and (begun() or then == data or "derived" in then):
        _refuse_newer(path.parent, then, known)
        _check_same(path.parent, then, data, HISTORY[kind].added)
        last = [document, *document["resumed"]][-1]
        if all(last.get(name) == value for name, value in made_with.items()):
            return document
        document["resumed"].append({"at": now, **made_with})
    else:
        canonical = json.dumps(data, sort_keys=True).encode()
        document = {
            "schema": SCHEMA_VERSION,
            "rows": kind,
            "created": now,
            **made_with,
            "data_digest": hashlib.sha256(canonical).hexdigest(),
            "data_config": data,
            "resumed": [],  # how it went on, where that differs from how it was started
        }
    write_atomically(path, jsonl.dumps(document, indent=2) + b"\n")
    return document


def _refuse_newer(directory: Path, then: Mapping[str, Any], known: Collection[str] | None) -> None:
    if known is None or "derived" in then:
        return
    unknown = sorted(then.keys() - known)
    if unknown:
        raise RunError(
            f"{directory} was made by a newer tessy: this version does not know the options "
            f"{', '.join(unknown)} of its config.json; resume it with that version, or choose "
            "another --out"
        )


def _check_same(
    directory: Path, then: dict[str, Any], now: dict[str, Any], added: Mapping[str, object]
) -> None:
    derived = then.get("derived")
    if isinstance(derived, dict) and "derived" not in now:
        # Nearly every other option differs, too: a list of them would hide what is the matter.
        raise RunError(
            f"{directory} is a {derived.get('by')} of other runs, and no samples can be added to "
            "it; choose another --out"
        )
    missing = object()
    before = {name: value for name, value in added.items() if name in now} | then
    differing = [
        name
        for name in sorted({*before, *now})
        if before.get(name, missing) != now.get(name, missing)
    ]
    if differing:
        shown = "\n".join(
            f"  {name}: {_shown(before, name)}, now {_shown(now, name)}" for name in differing
        )
        raise RunError(
            f"{directory} was made with other options, and its rows would not fit together:\n"
            f"{shown}\n"
            "give them as they were, choose another --out, or pass --fresh to set the run aside "
            f"as {directory}.old-1 and start over"
        )


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "(not set)"
