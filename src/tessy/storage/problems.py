"""Problems from an input file: messages, ids and extra fields."""

from __future__ import annotations

import contextlib
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tessy.core.errors import BadRowsError, ConfigError, InputError, RowFault
from tessy.core.records import Message, Problem
from tessy.storage.jsonl import loads
from tessy.storage.tables import InputRow, read_rows

_FIELDS = ("id", "prompt", "messages")
_encode = json.JSONEncoder(ensure_ascii=False).encode
_LIKELY = ("question", "problem", "instruction", "query")  # other common names of a prompt
_CONVERSATIONS = ("messages", "dialogs", "conversations")
_NOT_IN_IDS = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates, line separators
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
    """The problems of an input file, and the faults of skipped rows.

    ``lines`` has the line of each problem, or the row number in formats without lines; it is empty
    for problems that come from no file.
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
    assistant turn after it becomes ``extra["reference"]``, or ``reference_turn`` if the row has a
    ``reference`` field. Other keys of a turn are ignored; all other fields of the row are copied
    to ``extra`` unchanged.

    ``fields`` maps standard names to the names in the file: ``{"prompt": "problem", "id": "uid"}``.
    ``check`` returns why a problem cannot be used, which makes its row bad, or None.

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
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _ProblemReader:
    """Converts rows to problems with unique ids."""

    def __init__(
        self,
        path: Path,
        fields: dict[str, str],
        check: Callable[[Problem], UnusableProblem | None],
    ) -> None:
        unknown = sorted(set(fields) - set(_FIELDS))
        if unknown:
            raise ConfigError(
                f"--fields: {unknown[0]!r} is not a field of a problem; map some of "
                f"{', '.join(_FIELDS)} to names in your file"
            )
        if "prompt" in fields and "messages" in fields:
            raise ConfigError("--fields: map either prompt or messages, not both")
        self._path = str(path)
        self._fields = fields
        self._prompt_column = fields.get("prompt", "prompt")
        self._check = check
        self._assigned: dict[str, tuple[bytes, int]] = {}  # digest of messages, and line, by id
        self._repeats: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self.lines: list[int] = []
        self.faults: list[RowFault] = []

    def add(self, row: InputRow) -> None:
        """Add the problem of ``row`` or its faults."""
        earlier_faults = len(self.faults)
        if not isinstance(row.value, dict):
            message = f"expected an object, got {_kind(row.value)}"
            self.faults.append(RowFault(self._path, row.line, "(row)", message))
            return
        extra = dict(row.value)
        name = ""
        with self._record_fault(row):
            name = self._id(extra)
        with self._record_fault(row):
            messages, reference = self._conversation(extra)
            if len(self.faults) > earlier_faults:
                return
            name = self._assign_id(name, messages, row.line)
            if reference:
                extra[_free_name(extra)] = reference
            problem = Problem(id=name, messages=messages, extra=extra)
            if unusable := self._check(problem):
                raise _BadRow(*unusable)
            self.problems.append(problem)
            self.lines.append(row.line)

    @contextlib.contextmanager
    def _record_fault(self, row: InputRow) -> Iterator[None]:
        try:
            yield
        except _BadRow as bad:
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

    def _conversation(self, extra: dict[str, Any]) -> tuple[tuple[Message, ...], str]:
        """Remove the row's conversation; return the problem's messages and the reference."""
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
        turns = [_turn(f"{column}[{n}]", turn) for n, turn in enumerate(value)]
        return _split_reference(turns, column)

    def _messages_column(self, extra: Mapping[str, Any]) -> str:
        mapped = self._fields.get("prompt") or self._fields.get("messages")
        if mapped:
            if extra.get(mapped) is None:
                message = "expected a problem (the field map names this field), got none"
                raise _BadRow(mapped, message)
            return mapped
        present = [name for name in ("prompt", *_CONVERSATIONS) if extra.get(name) is not None]
        if not present:
            names = ", ".join(list(extra)[:8]) or "nothing"
            likely = next((name for name in _LIKELY if isinstance(extra.get(name), str)), "NAME")
            message = f"expected prompt or messages, got {names}; map the field"
            raise _BadRow("prompt", f"{message}: --fields prompt={likely}")
        if len(present) > 1:
            names = " and ".join(present)
            message = f"expected one prompt, got {names}; select one: --fields prompt=…"
            raise _BadRow(present[1], message)
        return present[0]

    def _assign_id(self, name: str, messages: tuple[Message, ...], line: int) -> str:
        """Return a unique id, which depends on earlier rows only.

        An empty ``name`` is replaced by 16 hex digits of the messages' SHA-256. A repeated id with
        the same messages becomes ``id#2``, ``id#3`` …; with other messages the row is bad.
        """
        turns = [[turn.role, turn.content] for turn in messages]
        digest = hashlib.sha256(_encode(turns).encode()).digest()
        name = name or digest.hex()[:16]
        first_digest, first_line = self._assigned.get(name, (digest, line))
        if first_digest != digest:
            raise _BadRow(
                "id", f"expected unique ids, but {name!r} is another problem on line {first_line}"
            )
        free = name
        while free in self._assigned:
            self._repeats[name] += 1
            free = f"{name}#{self._repeats[name] + 1}"
        self._assigned[free] = digest, line
        return free


def _split_reference(turns: list[Message], column: str) -> tuple[tuple[Message, ...], str]:
    last = max((n for n, turn in enumerate(turns) if turn.role == "user"), default=None)
    if last is None:
        raise _BadRow(column, "expected a user turn, got none")
    if not turns[last].content.strip():
        raise _BadRow(column, "expected a problem, got empty text")
    answers = [turn.content for turn in turns[last + 1 :] if turn.role == "assistant"]
    return tuple(turns[: last + 1]), answers[-1] if answers else ""


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


def _free_name(extra: Mapping[str, Any]) -> str:
    name = "reference"
    while name in extra:
        name += "_turn"
    return name


def _kind(value: object) -> str:
    names = {"NoneType": "null", "str": "text", "dict": "an object", "list": "a list"}
    return names.get(type(value).__name__, type(value).__name__)


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"
