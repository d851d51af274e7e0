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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tessy.answers.references import reference_of
from tessy.core.errors import BadRowsError, InputError, RowFault
from tessy.core.records import Message, Problem
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


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """The content of an input file.

    Attributes:
        problems: The problems in file order.
        faults: Faults of skipped rows.
        places: ``file:line`` of each problem (the row's number in formats without lines). Empty
            for problems that come from no file.
    """

    problems: tuple[Problem, ...]
    faults: tuple[RowFault, ...]
    places: tuple[str, ...] = ()


def load_problems(
    sources: Path | Sequence[Path],
    *,
    split: str | None = None,
    fields: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    likely_prompts: bool = False,
    check: Callable[[Problem], UnusableProblem | None] = lambda problem: None,
) -> LoadedProblems:
    """Read the problems of ``sources``; for formats see :func:`tessy.storage.tables.read_rows`.

    The conversation of a row is that of :mod:`tessy.storage.conversations`. Its reply becomes
    ``extra["reference"]`` if it can be a reference answer (:mod:`tessy.answers.references`) and the
    row has no reference, else ``extra["reference_turn"]``. All other fields of the row are copied
    to ``extra`` unchanged.

    Args:
        sources: Files, folders and data sets on the hub
            (:func:`tessy.storage.sources.resolve_sources`).
        split: The split of data sets.
        fields: Field names of the file by standard name (:class:`FieldMap`).
        skip_bad_rows: Return faults instead of raising them.
        likely_prompts: Also accept other common names of the prompt (:class:`FieldMap`).
        check: Returns why a problem cannot be used, which makes its row bad, or None.

    Raises:
        BadRowsError: Rows are unusable; contains every fault of the file.
        InputError: A file cannot be read, or no row is usable.
        ConfigError: ``fields`` contains an unknown standard name, or ``split`` has no use.
    """
    names = FieldMap(fields or {}, likely_prompts=likely_prompts)
    reader = _ProblemReader(names, check)
    files = resolve_sources([sources] if isinstance(sources, Path) else sources, split)
    for file in files:
        for row in read_rows(file):
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
class _ProblemReader:
    """Converts rows to problems with unique ids."""

    fields: FieldMap
    check: Callable[[Problem], UnusableProblem | None]
    problems: list[Problem] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)
    _ids: _IdRegistry = field(default_factory=lambda: _IdRegistry())

    def add(self, path: str, row: InputRow) -> None:
        """Add the problem of a row of the file ``path``, or its faults."""
        place = f"{path}:{row.line}"
        bad: list[BadField] = []
        try:
            problem = self._problem(row.value, place, bad)
        except BadField as error:
            bad.append(error)
        if not bad:
            self.problems.append(problem)
            self.places.append(place)
        for fault in bad:
            self.faults.append(RowFault(path, row.line, fault.field, str(fault)))

    def _problem(self, row: object, place: str, bad: list[BadField]) -> Problem:
        """Return the problem of a row; a bad id is added to ``bad``, to report both faults."""
        if not isinstance(row, dict):
            raise BadField("(row)", f"expected an object, got {kind(row)}")
        extra = dict(row)
        name = ""
        try:
            name = _id(extra, self.fields)
        except BadField as error:
            bad.append(error)
        conversation = take_conversation(extra, self.fields)
        if bad:
            raise bad.pop()
        name = self._ids.assign(name, conversation.messages, place)
        _add_references(extra, conversation.reply, self.fields)
        problem = Problem(id=name, messages=conversation.messages, extra=extra)
        unusable = self.check(problem)
        if unusable is not None:
            raise BadField(*unusable)
        return problem


def _id(row: dict[str, Any], fields: FieldMap) -> str:
    """Remove and return the row's id; empty if it has none."""
    mapped = fields.mapped("id")
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
    mapped = fields.mapped("reference")
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


@dataclass(slots=True)
class _AssignedId:
    digest: bytes  # of the messages
    place: str
    repeats: int = 1


@dataclass(slots=True)
class _IdRegistry:
    _assigned: dict[str, _AssignedId] = field(default_factory=dict)

    def assign(self, name: str, messages: tuple[Message, ...], place: str) -> str:
        """Return a unique id; an empty ``name`` is replaced by the digest of the messages."""
        turns = [[turn.role, turn.content] for turn in messages]
        digest = hashlib.sha256(_encode(turns).encode()).digest()
        name = name or digest.hex()[:16]
        first = self._assigned.get(name)
        if first is None:
            self._assigned[name] = _AssignedId(digest, place)
            return name
        if first.digest != digest:
            raise BadField(
                "id",
                f"expected unique ids, but {name!r} is another problem at {first.place}",
            )
        free = name
        while free in self._assigned:
            first.repeats += 1
            free = f"{name}#{first.repeats}"
        self._assigned[free] = _AssignedId(digest, place)
        return free
