"""Problems from an input file: messages, ids and extra fields.

Ids are stable when rows are appended to the input, because they depend on earlier rows only:

- the id is the row's ``id`` (text or a whole number), else the first 16 hex digits of the SHA-256
  of its messages;
- a repeated id with the same messages becomes ``id#2``, ``id#3`` … (the first free one); with
  other messages the row is bad.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tessy.answers.references import reference_of
from tessy.core.errors import BadRowsError, InputError, RowFault
from tessy.core.records import Message, Problem, TeacherTrace
from tessy.storage.conversations import BadField, FieldMap, get, kind, take_conversation
from tessy.storage.sources import resolve_sources
from tessy.storage.tables import InputRow, read_rows

_encode = json.JSONEncoder(ensure_ascii=False).encode
# Control characters, surrogates, line and paragraph separators.
_NOT_IN_IDS = {"Cc", "Cs", "Zl", "Zp"}


class UnusableProblem(NamedTuple):
    """Why a problem cannot be used: the field of its row, and a message."""

    field: str
    message: str


class RowPlace(NamedTuple):
    """A row of an input file, formatted by ``str`` as ``file:line``."""

    file: str
    line: int  # 1-based; the row's number in formats without lines

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """The content of input files, in their order."""

    problems: tuple[Problem, ...]
    faults: tuple[RowFault, ...]  # of skipped rows
    places: tuple[RowPlace, ...] = ()  # of each problem; empty if they come from no file


def load_problems(
    sources: Path | Sequence[Path],
    *,
    split: str | None = None,
    fields: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    likely_prompts: bool = False,
    check: Callable[[Problem], UnusableProblem | None] = lambda problem: None,
    take_trace: Callable[[dict[str, Any], FieldMap], TeacherTrace] | None = None,
    rows: Callable[[Path], Iterator[InputRow | RowFault]] = read_rows,
) -> LoadedProblems:
    """Read the problems of ``sources``; for formats see :func:`tessy.storage.tables.read_rows`.

    The conversation of a row is that of :mod:`tessy.storage.conversations`. Its reply becomes
    ``extra["reference"]`` if it can be a reference answer (:mod:`tessy.answers.references`) and the
    row has no reference, else ``extra["reference_turn"]``. All other fields of the row are copied
    to ``extra`` unchanged.

    ``sources`` and ``split`` are those of :func:`tessy.storage.sources.resolve_sources`, ``fields``
    and ``likely_prompts`` those of :class:`FieldMap`. ``skip_bad_rows`` returns faults instead of
    raising them. ``check`` returns why a problem cannot be used, which makes its row bad, or None.
    ``take_trace`` removes the trace from a row and returns it (:mod:`tessy.storage.traces`); the
    reply is then no reference. ``rows`` reads a file.

    Raises:
        BadRowsError: Rows are unusable; contains the first fault of each.
        InputError: A file cannot be read, or no row is usable.
        ConfigError: ``fields`` contains an unknown standard name, or ``split`` has no use.
    """
    names = FieldMap(fields or {}, likely_prompts=likely_prompts, traces=take_trace is not None)
    reader = _ProblemReader(names, check, take_trace)
    files = resolve_sources([sources] if isinstance(sources, Path) else sources, split)
    for file in files:
        for row in rows(file):
            if isinstance(row, RowFault):
                reader.faults.append(row)
            else:
                reader.add(str(file), row)
    if reader.faults and not skip_bad_rows:
        raise BadRowsError(reader.faults)
    if not reader.problems:
        why = f"; the first of {len(reader.faults)}: {reader.faults[0]}" if reader.faults else ""
        title = ", ".join(map(str, files))
        raise InputError(f"{title} has no usable row{why}; give a file with at least one problem")
    return LoadedProblems(tuple(reader.problems), tuple(reader.faults), tuple(reader.places))


@dataclass(slots=True)
class _AssignedId:
    digest: bytes  # of the messages
    place: RowPlace
    count: int = 0  # of problems with this id, and of numbers tried for repeated ones


@dataclass(slots=True)
class _ProblemReader:
    """Converts rows to problems with unique ids."""

    fields: FieldMap
    check: Callable[[Problem], UnusableProblem | None]
    take_trace: Callable[[dict[str, Any], FieldMap], TeacherTrace] | None
    problems: list[Problem] = field(default_factory=list)
    places: list[RowPlace] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)
    _ids: dict[str, _AssignedId] = field(default_factory=dict)

    def add(self, path: str, row: InputRow) -> None:
        """Add the problem of a row of the file ``path``, or the first fault of the row."""
        place = RowPlace(path, row.line)
        try:
            problem = self._problem(row.value, place)
        except BadField as error:
            self.faults.append(RowFault(*place, error.field, str(error)))
        else:
            self.problems.append(problem)
            self.places.append(place)

    def _problem(self, row: object, place: RowPlace) -> Problem:
        if not isinstance(row, dict):
            raise BadField("(row)", f"expected an object, got {kind(row)}")
        extra = dict(row)
        name = _id(extra, self.fields)
        trace = None if self.take_trace is None else self.take_trace(extra, self.fields)
        messages, reply = take_conversation(extra, self.fields)
        name = self._unique_id(name, messages, place)
        _add_references(extra, "" if trace else reply, self.fields)
        problem = Problem(id=name, messages=messages, extra=extra, trace=trace)
        unusable = self.check(problem)
        if unusable is not None:
            raise BadField(*unusable)
        return problem

    def _unique_id(self, name: str, messages: tuple[Message, ...], place: RowPlace) -> str:
        """Return a unique id; an empty ``name`` is replaced by the digest of the messages."""
        turns = [[turn.role, turn.content] for turn in messages]
        digest = hashlib.sha256(_encode(turns).encode()).digest()
        name = name or digest.hex()[:16]
        first = self._ids.setdefault(name, _AssignedId(digest, place))
        if first.digest != digest:
            message = f"expected unique ids, but {name!r} is another problem at {first.place}"
            raise BadField("id", message)
        first.count += 1
        if first.count == 1:
            return name
        while (free := f"{name}#{first.count}") in self._ids:
            first.count += 1
        self._ids[free] = _AssignedId(digest, place, count=1)
        return free


def _id(row: dict[str, Any], fields: FieldMap) -> str:
    """Remove and return the row's id; empty if it has none."""
    mapped = fields.mapped.get("id")
    column, value = next(iter(fields.take(row, "id")), (mapped, None))
    if value is None or column is None:
        if mapped:
            raise BadField(mapped, "expected an id (the field map names this field), got none")
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # integers in a column with missing values
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadField(column, f"expected text or a whole number, got {kind(value)}")
    if not value.strip():
        raise BadField(column, "expected an id, got empty text")
    if any(unicodedata.category(char) in _NOT_IN_IDS for char in value):
        raise BadField(column, f"expected an id without control characters, got {value!a}")
    return value


def _add_references(extra: dict[str, Any], reply: str, fields: FieldMap) -> None:
    """Add the mapped reference and the reply to the additional fields of a row."""
    mapped = fields.mapped.get("reference")
    if mapped:
        if mapped not in extra and mapped.split(".")[0] not in extra:
            raise BadField(mapped, "expected a reference (the field map names it), got none")
        value = get(extra, mapped)
        if extra.get("reference") not in (None, value):
            raise BadField("reference", f"expected one reference, got this field and {mapped}")
        if value is not None:
            extra["reference"] = value
    if reply:
        wanted = reference_of(extra) is None and reference_of({"reference": reply}) is not None
        name = "reference" if wanted else "reference_turn"
        while name in extra:
            name += "_turn"
        extra[name] = reply
