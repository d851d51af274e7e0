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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from tessy.answers.references import reference_of
from tessy.core.errors import BadRowsError, ConfigError, InputError, RowFault
from tessy.core.records import Message, Problem
from tessy.storage.jsonl import loads
from tessy.storage.tables import InputRow, read_rows

Field = Literal["id", "prompt", "messages"]
_encode = json.JSONEncoder(ensure_ascii=False).encode
_LIKELY = ("question", "problem", "instruction", "query")  # other common names of a prompt
_CONVERSATIONS = ("messages", "dialogs", "conversations")
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


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
        lines: Line of each problem, or row number in formats without lines. Empty for problems
            that come from no file.
    """

    problems: tuple[Problem, ...]
    faults: tuple[RowFault, ...]
    lines: tuple[int, ...] = ()


def load_problems(
    path: str | Path,
    *,
    fields: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    check: Callable[[Problem], UnusableProblem | None] = lambda problem: None,
) -> LoadedProblems:
    """Read the problems of ``path``; for formats see :func:`tessy.storage.tables.read_rows`.

    A row has a ``prompt`` (text, or a list of turns) or one of ``messages``, ``dialogs`` and
    ``conversations``: turns ``{role, content}`` or ``{from, value}``, where content is text or a
    list of text parts (joined by newlines). The problem ends with the last user turn. The last
    assistant turn after it becomes ``extra["reference"]`` if it can be a reference answer
    (:func:`tessy.answers.references.reference_of`) and the row has no such field, else
    ``extra["reference_turn"]``. Other keys of a turn are ignored; all other fields of the row are
    copied to ``extra`` unchanged.

    Args:
        path: The file.
        fields: Field names of the file by standard name: ``{"prompt": "problem", "id": "uid"}``.
        skip_bad_rows: Return faults instead of raising them.
        check: Returns why a problem cannot be used, which makes its row bad, or None.

    Raises:
        BadRowsError: Rows are unusable; contains every fault of the file.
        InputError: The file cannot be read, is empty, or has no usable row.
        ConfigError: ``fields`` contains an unknown standard name.
    """
    reader = _ProblemReader(Path(path), dict(fields or {}), check)
    for row in read_rows(Path(path)):
        if isinstance(row, RowFault):
            reader.faults.append(row)
        else:
            reader.add(row)
    if reader.faults and not skip_bad_rows:
        raise BadRowsError(reader.faults)
    if not reader.problems:
        why = f"; the first of {len(reader.faults)}: {reader.faults[0]}" if reader.faults else ""
        raise InputError(f"{path} has no usable row{why}; give a file with at least one problem")
    return LoadedProblems(tuple(reader.problems), tuple(reader.faults), tuple(reader.lines))


class _BadRow(Exception):
    """An unusable field of the current row."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.field = name


class _ProblemReader:
    """Converts rows to problems with unique ids."""

    def __init__(
        self,
        path: Path,
        fields: dict[str, str],
        check: Callable[[Problem], UnusableProblem | None],
    ) -> None:
        unknown = sorted(set(fields) - set(get_args(Field)))
        if unknown:
            raise ConfigError(
                f"--fields: {unknown[0]!r} is not a field of a problem; map some of "
                f"{', '.join(get_args(Field))} to names in your file"
            )
        if "prompt" in fields and "messages" in fields:
            raise ConfigError("--fields: map either prompt or messages, not both")
        self._path = str(path)
        self._fields = fields
        self._check = check
        self._ids = _IdRegistry()
        self.problems: list[Problem] = []
        self.lines: list[int] = []
        self.faults: list[RowFault] = []

    def add(self, row: InputRow) -> None:
        """Add the problem of ``row`` or its faults."""
        if not isinstance(row.value, dict):
            self._fault(row, _BadRow("(row)", f"expected an object, got {_kind(row.value)}"))
            return
        extra = dict(row.value)
        bad = []
        name, text = "", None
        try:
            name = self._id(extra)
        except _BadRow as error:
            bad.append(error)
        try:
            text = self._problem_text(extra)
            if not bad:
                name = self._ids.assign(name, text.messages, row.line)
        except _BadRow as error:
            bad.append(error)
        for fault in bad:
            self._fault(row, fault)
        if text is not None and not bad:
            if text.reference:
                extra[_reply_field(extra, text.reference)] = text.reference
            problem = Problem(id=name, messages=text.messages, extra=extra)
            unusable = self._check(problem)
            if unusable is None:
                self.problems.append(problem)
                self.lines.append(row.line)
            else:
                self._fault(row, _BadRow(*unusable))

    def _fault(self, row: InputRow, bad: _BadRow) -> None:
        self.faults.append(RowFault(self._path, row.line, bad.field, str(bad)))

    def _id(self, extra: dict[str, Any]) -> str:
        """Remove and return the row's id; empty if it has none."""
        mapped = self._fields.get("id")
        column = mapped or "id"
        value = extra.pop(column, None)
        if value is None:
            if mapped:
                raise _BadRow(column, "expected an id (the field map names this field), got none")
            return ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # integers in a column with missing values
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise _BadRow(column, f"expected text or a whole number, got {_kind(value)}")
        if not value.strip():
            raise _BadRow(column, "expected an id, got empty text")
        if any(unicodedata.category(char) in _NOT_IN_IDS for char in value):
            raise _BadRow(column, f"expected an id without control characters, got {value!a}")
        return value

    def _problem_text(self, extra: dict[str, Any]) -> _ProblemText:
        """Remove and return the row's conversation."""
        column = self._messages_column(extra)
        value = extra.pop(column)
        if isinstance(value, str) and column != self._prompt_column:
            try:  # lists in CSV are JSON text
                value = loads(value)
            except ValueError:
                raise _BadRow(column, f"expected a list of turns, got {_kind(value)}") from None
        if isinstance(value, str):
            return _split_reference([Message(role="user", content=_checked(column, value))], column)
        if not isinstance(value, list):
            what = "text" if column == self._prompt_column else "a list of turns"
            raise _BadRow(column, f"expected {what}, got {_kind(value)}")
        return _split_reference(
            [_turn(f"{column}[{n}]", turn) for n, turn in enumerate(value)], column
        )

    @property
    def _prompt_column(self) -> str:
        return self._fields.get("prompt", "prompt")

    def _messages_column(self, extra: Mapping[str, Any]) -> str:
        mapped = self._fields.get("prompt") or self._fields.get("messages")
        if mapped:
            if extra.get(mapped) is None:
                raise _BadRow(
                    mapped, "expected a problem (the field map names this field), got none"
                )
            return mapped
        present = [name for name in ("prompt", *_CONVERSATIONS) if extra.get(name) is not None]
        if not present:
            names = ", ".join(list(extra)[:8]) or "nothing"
            likely = next((name for name in _LIKELY if isinstance(extra.get(name), str)), "NAME")
            raise _BadRow(
                "prompt",
                f"expected prompt or messages, got {names}; map the field: "
                f"--fields prompt={likely}",
            )
        if len(present) > 1:
            raise _BadRow(
                present[1],
                f"expected one prompt, got {' and '.join(present)}; select one: --fields prompt=…",
            )
        return present[0]


_NOT_IN_IDS = {
    "Cc",
    "Cs",
    "Zl",
    "Zp",
}  # control characters, surrogates, line and paragraph separators


@dataclass(frozen=True, slots=True)
class _ProblemText:
    messages: tuple[Message, ...]
    reference: str = ""


def _split_reference(turns: list[Message], column: str) -> _ProblemText:
    last = max((n for n, turn in enumerate(turns) if turn.role == "user"), default=None)
    if last is None:
        raise _BadRow(column, "expected a user turn, got none")
    if not turns[last].content.strip():
        raise _BadRow(column, "expected a problem, got empty text")
    answers = [turn.content for turn in turns[last + 1 :] if turn.role == "assistant"]
    return _ProblemText(tuple(turns[: last + 1]), answers[-1] if answers else "")


def _turn(place: str, turn: object) -> Message:
    if not isinstance(turn, dict):
        raise _BadRow(place, f"expected a turn {{role, content}}, got {_kind(turn)}")
    role, content = ("role", "content") if "role" in turn else ("from", "value")
    if role not in turn:
        raise _BadRow(place, f"expected a role, got {', '.join(map(str, turn)) or 'nothing'}")
    known = _ROLES.get(turn[role]) if isinstance(turn[role], str) else None
    if known is None:
        raise _BadRow(
            f"{place}.{role}", f"expected one of {', '.join(_ROLES)}, got {_short(turn[role])}"
        )
    place = f"{place}.{content}"
    return Message(role=known, content=_checked(place, _content(place, turn.get(content))))


def _content(place: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _BadRow(place, f"expected text, got {_kind(value)}")
    texts = []
    for number, part in enumerate(value):
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str) or (isinstance(part, dict) and part.get("type") != "text"):
            found = part.get("type") if isinstance(part, dict) else None
            raise _BadRow(f"{place}[{number}]", f"expected a text part, got {found or _kind(part)}")
        texts.append(text)
    return "\n".join(texts)


def _checked(place: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _BadRow(
            place, f"expected valid Unicode, got an unpaired surrogate at {error.start}"
        ) from None
    return text


def _reply_field(extra: Mapping[str, Any], reply: str) -> str:
    name = "reference" if reference_of({"reference": reply}) is not None else "reference_turn"
    while name in extra:
        name += "_turn"
    return name


def _kind(value: object) -> str:
    names = {"NoneType": "null", "str": "text", "dict": "an object", "list": "a list"}
    return names.get(type(value).__name__, type(value).__name__)


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"


@dataclass(slots=True)
class _AssignedId:
    digest: bytes  # of the messages
    line: int
    repeats: int = 1


@dataclass(slots=True)
class _IdRegistry:
    _assigned: dict[str, _AssignedId] = field(default_factory=dict)

    def assign(self, name: str, messages: tuple[Message, ...], line: int) -> str:
        """Return a unique id; an empty ``name`` is replaced by the digest of the messages."""
        turns = [[turn.role, turn.content] for turn in messages]
        digest = hashlib.sha256(_encode(turns).encode()).digest()
        name = name or digest.hex()[:16]
        first = self._assigned.get(name)
        if first is None:
            self._assigned[name] = _AssignedId(digest, line)
            return name
        if first.digest != digest:
            raise _BadRow(
                "id",
                f"expected unique ids, but {name!r} is another problem on line {first.line}",
            )
        free = name
        while free in self._assigned:
            first.repeats += 1
            free = f"{name}#{first.repeats}"
        self._assigned[free] = _AssignedId(digest, line)
        return free
