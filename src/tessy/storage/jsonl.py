"""Strict JSON in UTF-8, and JSON lines."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from tessy.core.errors import InputError
from tessy.core.records import Key, SegmentKey
from tessy.storage.atomic import write_atomically

# Start of a row written by tessy: yields its key without parsing the whole row.
_KEY = re.compile(rb'\{"id": ?("(?:[^"\\]|\\.)*"), ?"sample": ?(\d+)[,}]')
_SEGMENT_KEY = re.compile(_KEY.pattern[:-4] + rb', ?"segment": ?(\d+)[,}]')


def plain(value: object) -> object:
    """Convert ``value`` to strict JSON values.

    Dates and times become ISO 8601, bytes UTF-8 text (base64 if invalid), NaN null, infinities
    ``"Infinity"`` and ``"-Infinity"``, and other objects their ``str``.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return plain_object(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    return str(value)


def plain_object(value: Mapping[str, object]) -> dict[str, Any]:
    """Convert ``value`` to a strict JSON object (:func:`plain`)."""
    return {str(key): plain(item) for key, item in value.items()}


# Shared, because construction is slow.
_DECODER = json.JSONDecoder(parse_constant=lambda name: None if name == "NaN" else name)


def loads(text: str | bytes) -> object:
    """Parse JSON, with NaN literals as in :func:`plain`; ValueError also if nested too deeply."""
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: object, *, indent: int | None = None) -> bytes:
    """Serialize ``value`` as strict JSON in UTF-8."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError):
        text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    # Only surrogates inside strings cannot be encoded; their Python escape is valid JSON.
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: object) -> None:
    """Atomically replace ``path`` by ``value`` as an indented JSON document."""
    write_atomically(path, dumps(value, indent=2) + b"\n")


def dump_line(value: object) -> bytes:
    """Serialize ``value`` as one line of JSON with a newline."""
    return dumps(value) + b"\n"


class Line(NamedTuple):
    """A line of a file: 1-based number, offset in bytes, content."""

    number: int
    offset: int
    content: bytes


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a growing file, except blank lines and an incomplete last line."""
    previous: Line | None = None
    offset = 0
    with path.open("rb") as file:
        for number, content in enumerate(file, 1):
            if previous is not None:
                yield previous
                previous = None
            if content.strip():
                previous = Line(number, offset, content)
            offset += len(content)
    if previous is not None and is_row(previous.content):
        yield previous


def is_row(content: bytes) -> bool:
    """Return whether ``content`` is a complete JSON object."""
    try:
        return isinstance(loads(content), dict)
    except ValueError:
        return False


def row(path: Path, line: Line) -> dict[str, Any]:
    """Parse the JSON object on ``line``; anything else raises InputError with file and line."""
    try:
        value = loads(line.content)
    except ValueError as error:
        raise corrupt_line(path, line, f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise corrupt_line(path, line, f"expected an object, got {type(value).__name__}")
    return value


def row_key(path: Path, line: Line) -> Key:
    """Return the key of the row on ``line``, parsing only its start if possible."""
    name, sample = _key(path, line, _KEY, "sample")
    return name, sample


def segment_key(path: Path, line: Line) -> SegmentKey:
    """Return the key of the annotation on ``line``; see :func:`row_key`."""
    name, sample, segment = _key(path, line, _SEGMENT_KEY, "sample", "segment")
    return name, sample, segment


def _key(path: Path, line: Line, beginning: re.Pattern[bytes], *numbers: str) -> tuple[Any, ...]:
    match = beginning.match(line.content)
    if match and line.content.rstrip().endswith(b"}"):
        with contextlib.suppress(ValueError):  # malformed; reported below
            return json.loads(match[1]), *map(int, match.groups()[1:])
    value = row(path, line)
    key = (value.get("id"), *(value.get(number) for number in numbers))
    if not isinstance(key[0], str) or not all(isinstance(number, int) for number in key[1:]):
        expected = " and ".join(f"a {number} (whole number)" for number in numbers)
        raise corrupt_line(path, line, f"expected an id (text) and {expected}")
    return key


KeyT = TypeVar("KeyT", bound=Hashable)
KeyOf = Callable[[Path, Line], KeyT]
Location = tuple[Path, int]  # a file and the offset of a row
_ModelT = TypeVar("_ModelT", bound=BaseModel)


def last_rows(files: list[Path], key_of: KeyOf[KeyT]) -> dict[KeyT, Location]:
    """Return the location of the last row of each key."""
    return {key_of(path, line): (path, line.offset) for path in files for line in read_lines(path)}


def rows_at(
    kind: type[_ModelT], files: list[Path], locations: Mapping[KeyT, Location], key_of: KeyOf[KeyT]
) -> Iterator[_ModelT]:
    """Yield the rows at ``locations``, in file order."""
    for path in files:
        for line in read_lines(path):
            if locations.get(key_of(path, line)) == (path, line.offset):
                yield parse_row(kind, path, line)


def parse_row(kind: type[_ModelT], path: Path, line: Line) -> _ModelT:
    """Parse and validate the row on ``line``; InputError names file, line and field."""
    try:
        return kind.model_validate(row(path, line))
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise corrupt_line(path, line, "; ".join(faults)) from None


def corrupt_line(path: Path, line: Line, message: str) -> InputError:
    """Return the error for an unreadable line of a run."""
    return InputError(
        f"{path}:{line.number}: {message}; move this line to another file: its sample counts as "
        "missing, and resuming the run generates it again"
    )
