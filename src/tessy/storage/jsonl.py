r"""JSON as tessy reads and writes it: plain values, lines that are always valid, torn tails.

Everything written is strict JSON in UTF-8, whatever a user's row held: no NaN, and half a
surrogate pair becomes its ``\ud800`` escape, which reads back as the same string.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from tessy.core.errors import InputError
from tessy.core.records import Key, SegmentKey
from tessy.storage.atomic import write_atomically

# How a row of ours begins: enough to know its key without parsing 100 kB of it.
_KEY = re.compile(rb'\{"id": ?("(?:[^"\\]|\\.)*"), ?"sample": ?(\d+)[,}]')
_SEGMENT_KEY = re.compile(_KEY.pattern[:-4] + rb', ?"segment": ?(\d+)[,}]')


def plain(value: object) -> object:
    """``value`` as strict JSON values.

    Dates and times become ISO 8601, bytes their UTF-8 text (base64 if they are none), NaN null,
    infinities ``"Infinity"`` and ``"-Infinity"``, and anything else its ``str``.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, Mapping):
        return plain_object(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return _bytes_text(bytes(value))
    return str(value)


def plain_object(value: Mapping[str, object]) -> dict[str, Any]:
    """``value`` as a strict JSON object (:func:`plain`)."""
    return {str(key): plain(item) for key, item in value.items()}


def _not_finite(value: float) -> str | None:
    if math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


def _constant(name: str) -> str | None:
    """Return what the literals ``NaN``, ``Infinity`` and ``-Infinity`` are read as."""
    return None if name == "NaN" else name


_DECODER = json.JSONDecoder(parse_constant=_constant)  # made once: a million rows notice


def loads(text: str | bytes) -> object:
    """Parse JSON; Python's NaN literals become what :func:`plain` makes of them.

    Raises:
        ValueError: It is no JSON, is no UTF-8, or is nested too deeply.
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: object, *, indent: int | None = None) -> bytes:
    """``value`` as strict JSON in UTF-8."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError):
        text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    # Only surrogates cannot be encoded, they occur only inside JSON strings, and Python's
    # backslash escape of them is JSON's.
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: object) -> None:
    """Replace ``path`` atomically by ``value`` as an indented JSON document.

    Raises:
        StorageError: It could not be written; the old file is still there.
    """
    write_atomically(path, dumps(value, indent=2) + b"\n")


def dump_line(value: object) -> bytes:
    """``value`` as one line of a JSON-lines file, with its newline."""
    return dumps(value) + b"\n"


class Line(NamedTuple):
    """One line of a file: its number (1-based), where it starts (bytes), and its content."""

    number: int
    offset: int
    content: bytes


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a JSON-lines file of ours that may still be growing.

    Blank lines are left out, and so is a last line that is no whole row: it is torn, or just
    being written.
    """
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
    """Return whether ``content`` is one whole JSON object."""
    try:
        return isinstance(loads(content), dict)
    except ValueError:
        return False


def row(path: Path, line: Line) -> dict[str, Any]:
    """Return the JSON object on ``line``.

    Raises:
        InputError: It is none; names file and line.
    """
    try:
        value = loads(line.content)
    except ValueError as error:
        raise corrupt(path, line, f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise corrupt(path, line, f"expected an object, got {type(value).__name__}")
    return value


def row_key(path: Path, line: Line) -> Key:
    """Return the key of the row on ``line``; reads only its beginning where it was written by us.

    Raises:
        InputError: The line is no row of ours; names file and line.
    """
    name, sample = _key(path, line, _KEY, "sample")
    return name, sample


def segment_key(path: Path, line: Line) -> SegmentKey:
    """Return the key of the annotation on ``line``, read as :func:`row_key` does.

    Raises:
        InputError: The line is no row of ours; names file and line.
    """
    name, sample, segment = _key(path, line, _SEGMENT_KEY, "sample", "segment")
    return name, sample, segment


def _key(path: Path, line: Line, beginning: re.Pattern[bytes], *numbers: str) -> tuple[Any, ...]:
    match = beginning.match(line.content)
    if match and line.content.rstrip().endswith(b"}"):
        with contextlib.suppress(ValueError):  # damaged; reported below
            return json.loads(match[1]), *map(int, match.groups()[1:])
    value = row(path, line)
    key = (value.get("id"), *(value.get(number) for number in numbers))
    if not isinstance(key[0], str) or not all(isinstance(number, int) for number in key[1:]):
        wanted = " and ".join(f"a {number} (whole number)" for number in numbers)
        raise corrupt(path, line, f"a row has an id (text) and {wanted}")
    return key


KeyT = TypeVar("KeyT", bound=Hashable)
KeyOf = Callable[[Path, Line], KeyT]
Place = tuple[Path, int]  # a file and where in it a row starts
_ModelT = TypeVar("_ModelT", bound=BaseModel)


def last_rows(files: list[Path], key_of: KeyOf[KeyT]) -> dict[KeyT, Place]:
    """Return where the last row of each key is."""
    return {key_of(path, line): (path, line.offset) for path in files for line in read_lines(path)}


def rows_at(
    kind: type[_ModelT], files: list[Path], places: Mapping[KeyT, Place], key_of: KeyOf[KeyT]
) -> Iterator[_ModelT]:
    """Yield the rows of ``files`` that ``places`` names, in file order.

    Raises:
        InputError: A row is none of ``kind``; names file, line and field.
    """
    for path in files:
        for line in read_lines(path):
            if places.get(key_of(path, line)) == (path, line.offset):
                yield row_of(kind, path, line)


def row_of(kind: type[_ModelT], path: Path, line: Line) -> _ModelT:
    """Return the row on ``line``.

    Raises:
        InputError: It is none of ``kind``; names file, line and field.
    """
    try:
        return kind.model_validate(row(path, line))
    except ValidationError as error:
        raise corrupt(path, line, _faults(error)) from None


def _faults(error: ValidationError) -> str:
    """``field: what is wrong with it``, one after the other."""
    named = (
        (".".join(map(str, fault["loc"])) or "row", fault["msg"])
        for fault in error.errors(include_url=False)
    )
    return "; ".join(f"{field}: {message}" for field, message in named)


def corrupt(path: Path, line: Line, message: str) -> InputError:
    """Return the error for a line of a run that cannot be read, with what to do."""
    return InputError(
        f"{path}:{line.number}: {message}; move this line to another file: its sample counts as "
        "not made, and going on with the run makes it again"
    )
