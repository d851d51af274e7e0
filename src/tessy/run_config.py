"""config.json of a directory of rows: how it was made, and who may go on with it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tessy import jsonl
from tessy.atomic import write_atomically
from tessy.errors import RunError
from tessy.records import SCHEMA_VERSION

# Which command makes a directory with such rows, and which reads it.
_MADE_BY = {
    "trajectories": "`tessy synthesize` and `tessy sample` make such runs",
    "annotations": "`tessy annotate` makes one from a run of responses",
}


def read(path: Path, kind: str) -> dict[str, Any]:
    """The content of config.json.

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
    return {"rows": kind, "data_config": {}, "resumed": [], **document}


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
) -> dict[str, Any]:
    """The content of config.json: written for a new directory, compared and kept for an old one.

    Args:
        path: The file.
        kind: What the directory's rows are.
        made_with: Options and versions, for the record.
        data: What decides on the content of rows, as flat dotted keys.
        begun: Whether the directory has rows, or some in the making.

    Raises:
        RunError: The directory was made with other ``data``, or cannot be read.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made_with = {"tessy": importlib.metadata.version("tessy"), **made_with}
    document = read(path, kind) if path.exists() else None
    # A run that never got to work, because of a misspelt option say, binds nobody.
    then = document["data_config"] if document is not None else {}
    if document is not None and (begun() or then == data or "derived" in then):
        _check_same(path.parent, then, data)
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


def _check_same(directory: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    derived = then.get("derived")
    if isinstance(derived, dict) and "derived" not in now:
        # Nearly every other option differs, too: a list of them would hide what is the matter.
        raise RunError(
            f"{directory} is a {derived.get('by')} of other runs, and no samples can be added to "
            "it; choose another --out"
        )
    missing = object()
    differing = [
        name for name in sorted({*then, *now}) if then.get(name, missing) != now.get(name, missing)
    ]
    if differing:
        shown = "\n".join(
            f"  {name}: {_shown(then, name)}, now {_shown(now, name)}" for name in differing
        )
        raise RunError(
            f"{directory} was made with other options, and its rows would not fit together:\n"
            f"{shown}\n"
            "give them as they were, choose another --out, or pass --fresh to set the run aside "
            f"as {directory}.old-1 and start over"
        )


def _shown(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "(not set)"
