"""The conversation in a row of an input file, and the reply that follows it (pure).

Every text of the row that belongs to the problem becomes part of the conversation or is a fault:

- ``prompt`` (text, or a list of turns), or one of ``messages``, ``dialogs`` and ``conversations``:
  turns ``{role, content}`` or ``{from, value}``, where content is text or a list of text parts
  (joined by newlines);
- ``system`` or ``system_prompt`` becomes the first turn;
- ``input`` and ``context`` (Alpaca, Dolly) are appended to a prompt that is text, after a blank
  line, unless the prompt contains them;
- tools and images, and ``choices`` or ``options`` whose texts are not in the prompt, are faults:
  the models would not see them.

The conversation ends with the last user turn. The last assistant turn after it is the reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tessy.core.errors import ConfigError
from tessy.core.records import Message
from tessy.storage.jsonl import loads

FIELDS = ("id", "prompt", "messages", "reference", "system", "input", "tools", "choices")
RESPONSE = "response"  # of a trace
CONVERSATIONS = ("messages", "dialogs", "conversations")
LIKELY = ("question", "problem", "instruction", "query")  # other common names of a prompt
_USUAL: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "system": ("system", "system_prompt"),
    "input": ("input", "context"),
    "tools": ("tools", "functions", "images", "image"),
    "choices": ("choices", "options"),
}
_UNSEEN = ("tool_calls", "function_call", "images", "image", "audio")  # of a turn
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


class BadField(Exception):
    """An unusable field of a row."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class FieldMap:
    """Names of a file's fields, by tessy's name (``mapped``); others have their usual names.

    A name is that of a field, or a path with dots to a value inside it: ``reward.answer``. An empty
    name means that the file has no such field. With ``likely_prompts``, other common names of the
    prompt (``question``, ``problem`` …) are tried in rows without the mapped and the usual ones.
    ``response`` is allowed only with ``traces``.

    Raises:
        ConfigError: A key of ``names`` is unknown, or both prompt and messages are mapped.
    """

    def __init__(
        self, names: Mapping[str, str], *, likely_prompts: bool = False, traces: bool = False
    ) -> None:
        if RESPONSE in names and not traces:
            raise ConfigError(
                "--fields: a problem has no response; leave out `response=`, or read traces "
                "(--strategy restyle --traces FILE)"
            )
        known = (*FIELDS, RESPONSE) if traces else FIELDS
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise ConfigError(
                f"--fields: {unknown[0]!r} is not a field of a problem; map some of "
                f"{', '.join(known)} to names in your file"
            )
        if "prompt" in names and "messages" in names:
            raise ConfigError("--fields: map either prompt or messages, not both")
        self.mapped = names
        self._likely_prompts = likely_prompts

    def values(self, row: Mapping[str, Any], field: str) -> list[tuple[str, Any]]:
        """Return names and values of a field, without None."""
        return [
            (name, value) for name in self._names(field) if (value := get(row, name)) is not None
        ]

    def take(self, row: dict[str, Any], field: str) -> list[tuple[str, Any]]:
        """Do the same as :meth:`values`, and remove top-level fields from the row."""
        values = self.values(row, field)
        for name in self._names(field):
            row.pop(name, None)
        return values

    def _names(self, field: str) -> tuple[str, ...]:
        mapped = self.mapped.get(field)
        return _USUAL[field] if mapped is None else (mapped,) if mapped else ()

    def prompt_name(self, row: Mapping[str, Any]) -> str:
        """Return the name of the field with the prompt or the turns; BadField unless it has one."""
        mapped = self.mapped.get("prompt") or self.mapped.get("messages")
        if mapped and get(row, mapped) is not None:
            return mapped
        if mapped and not self._likely_prompts:
            raise BadField(mapped, "expected a problem (the field map names this field), got none")
        present = [name for name in ("prompt", *CONVERSATIONS) if row.get(name) is not None]
        likely = [name for name in LIKELY if isinstance(row.get(name), str)]
        if not present and likely and self._likely_prompts:
            return likely[0]
        if not present:
            raise BadField(
                "prompt",
                f"expected prompt or messages, got {', '.join(list(row)[:8]) or 'nothing'}; map "
                f"the field: --fields prompt={next(iter(likely), 'NAME')}",
            )
        if len(present) > 1:
            raise BadField(
                present[1],
                f"expected one prompt, got {' and '.join(present)}; select one: --fields prompt=…",
            )
        return present[0]

    def is_prompt(self, name: str) -> bool:
        """Return whether a field may hold text instead of turns."""
        return name in ("prompt", self.mapped.get("prompt"), *LIKELY)


def get(row: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401  # any JSON value
    """Return the value of a field, or of a path with dots inside one; None without it."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def take_conversation(row: dict[str, Any], fields: FieldMap) -> tuple[tuple[Message, ...], str]:
    """Return the messages up to the last user turn, and the reply that follows ("" without one).

    Their fields are removed from the row. Raises BadField if it has no usable conversation.
    """
    name = fields.prompt_name(row)
    value = get(row, name)
    row.pop(name, None)
    if isinstance(value, str) and not fields.is_prompt(name):
        try:  # lists in CSV are JSON text
            value = loads(value)
        except ValueError:
            raise BadField(name, f"expected a list of turns, got {kind(value)}") from None
    if isinstance(value, str):
        if not value.strip():
            raise BadField(name, "expected a problem, got empty text")
        text = _with_inputs(_checked(name, value), fields.take(row, "input"))
        turns = [Message(role="user", content=text)]
    elif isinstance(value, list):
        for beside, text in fields.take(row, "input"):
            if text:
                raise BadField(
                    beside,
                    "expected no text beside turns; add it to a turn, or leave it out with "
                    "`--fields input=`",
                )
        turns = [_turn(f"{name}[{n}]", turn) for n, turn in enumerate(value)]
    else:
        what = "text" if fields.is_prompt(name) else "a list of turns"
        raise BadField(name, f"expected {what}, got {kind(value)}")
    for tools, definitions in fields.take(row, "tools"):
        if definitions and definitions != "[]":
            raise BadField(
                tools,
                f"expected none, because the models would not see the {tools}; "
                "`--fields tools=` leaves it out",
            )
    _check_choices(turns, row, fields)
    return _split_reply(_with_system(turns, fields.take(row, "system")), name)


def _check_choices(turns: Sequence[Message], row: Mapping[str, Any], fields: FieldMap) -> None:
    prompt = "\n".join(turn.content for turn in turns)
    for name, choices in fields.values(row, "choices"):
        missing = [text for text in _texts(choices) if text.strip() not in prompt]
        if missing:
            raise BadField(
                name,
                f"expected the choices in the prompt, which lacks {_short(missing[0])}; add them "
                "to it, or ignore the field with `--fields choices=`",
            )


def _texts(value: object) -> list[str]:
    """Return all texts in nested lists and objects."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _with_inputs(prompt: str, inputs: Sequence[tuple[str, Any]]) -> str:
    for name, value in inputs:
        if value and not isinstance(value, str):
            raise BadField(
                name,
                f"expected text that belongs to the prompt, got {kind(value)}; map another field "
                "with `--fields input=NAME`, or leave it out with `--fields input=`",
            )
        text = _checked(name, value or "").strip()
        paragraphs = f"\n{prompt.strip()}\n"
        if text and f"\n{text}\n" not in paragraphs:
            prompt = f"{prompt}\n\n{text}"
    return prompt


def _with_system(turns: list[Message], systems: Sequence[tuple[str, Any]]) -> list[Message]:
    for name, value in systems:
        if value and not isinstance(value, str):
            raise BadField(name, f"expected the text of a system turn, got {kind(value)}")
        text = _checked(name, value or "")
        leading = turns[0].content if turns and turns[0].role == "system" else None
        if not text.strip() or text == leading:
            continue
        if leading is not None:
            raise BadField(
                name,
                "expected one system message, got this field beside a system turn; leave it out "
                "with `--fields system=`",
            )
        turns = [Message(role="system", content=text), *turns]
    return turns


def _split_reply(turns: list[Message], name: str) -> tuple[tuple[Message, ...], str]:
    last = max((n for n, turn in enumerate(turns) if turn.role == "user"), default=None)
    if last is None:
        raise BadField(name, "expected a user turn, got none")
    if not turns[last].content.strip():
        raise BadField(name, "expected a problem, got empty text")
    after = turns[last + 1 :]
    if any(turn.role == "system" for turn in after):
        raise BadField(name, "expected no system turn after the last user turn, got one")
    return tuple(turns[: last + 1]), after[-1].content if after else ""


def _turn(place: str, turn: object) -> Message:
    if not isinstance(turn, dict):
        raise BadField(place, f"expected a turn {{role, content}}, got {kind(turn)}")
    role, content = ("role", "content") if "role" in turn else ("from", "value")
    if role not in turn:
        raise BadField(place, f"expected a role, got {', '.join(map(str, turn)) or 'nothing'}")
    known = _ROLES.get(turn[role]) if isinstance(turn[role], str) else None
    if known is None:
        raise BadField(
            f"{place}.{role}", f"expected one of {', '.join(_ROLES)}, got {_short(turn[role])}"
        )
    for unseen in _UNSEEN:
        if turn.get(unseen):
            raise BadField(f"{place}.{unseen}", "expected none; the models would not see it")
    place = f"{place}.{content}"
    return Message(role=known, content=_checked(place, _content(place, turn.get(content))))


def _content(place: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise BadField(place, f"expected text, got {kind(value)}")
    texts = []
    for number, part in enumerate(value):
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str) or (isinstance(part, dict) and part.get("type") != "text"):
            got = part.get("type") if isinstance(part, dict) else None
            raise BadField(f"{place}[{number}]", f"expected a text part, got {got or kind(part)}")
        texts.append(text)
    return "\n".join(texts)


def _checked(place: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadField(
            place, f"expected valid Unicode, got an unpaired surrogate at {error.start}"
        ) from None
    return text


def kind(value: object) -> str:
    """Return the kind of a JSON value, for messages."""
    names = {"NoneType": "null", "str": "text", "dict": "an object", "list": "a list"}
    return names.get(type(value).__name__, type(value).__name__)


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"
