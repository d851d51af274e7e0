"""TOML files and overrides to configurations, with errors that name file, line and option."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tessy.config.base import Config
from tessy.core.errors import ConfigError

C = TypeVar("C", bound=Config)
Location = tuple[str, ...]

_PART = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_NAME = rf"({_PART}(?:\s*\.\s*{_PART})*)"
_TABLE = re.compile(rf"\s*\[\s*{_NAME}\s*\]")
_KEY = re.compile(rf"\s*{_NAME}\s*=")


@dataclass(frozen=True)
class TomlFile:
    """A TOML document that remembers on which line a key stands."""

    path: Path
    text: str
    document: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> TomlFile:
        """Read ``path``.

        Raises:
            ConfigError: It cannot be read, or is no TOML; names the line.
        """
        try:
            text = path.read_text("utf-8")
            return cls(path, text, tomllib.loads(text))
        except OSError as error:
            raise ConfigError(f"{path}: cannot read this TOML file: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: is not valid TOML: {error}") from error

    @cached_property
    def _lines(self) -> dict[Location, int]:
        """1-based line of each key and table; an inline table stands for its keys."""
        lines: dict[Location, int] = {}
        table: Location = ()
        for number, line in enumerate(self.text.splitlines(), start=1):
            if match := _TABLE.match(line):
                name = table = _split_name(match[1])
            elif match := _KEY.match(line):
                name = table + _split_name(match[1])
            else:
                continue
            for end in range(1, len(name) + 1):
                lines.setdefault(name[:end], number)
        return lines

    def where(self, location: Location) -> str:
        """``file:line`` of the key, or of the table it would stand in; else the file alone."""
        for end in range(len(location), 0, -1):
            if location[:end] in self._lines:
                return f"{self.path}:{self._lines[location[:end]]}"
        return str(self.path)


def load_config(
    cls: type[C], toml_path: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> C:
    """Make a configuration: overrides win over the TOML file, which wins over the defaults.

    Args:
        cls: The configuration's class.
        toml_path: A TOML file whose tables are the nested models (``[student.sampling]``).
        overrides: Nested mapping of field names, as given on the command line.

    Raises:
        ConfigError: Lists every unusable value, each with file and line, or its option.
    """
    toml = TomlFile.read(toml_path) if toml_path else None
    given = overrides or {}
    document = _merge(_skeleton(cls), _merge(toml.document if toml else {}, given))
    try:
        # JSON in strict mode: "5" is no number and 1 is no flag, but a string is a path.
        return cls.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        raise _config_error(cls, error.errors(), toml, given) from error


def partial_config(cls: type[C], toml_path: Path | None, missing: object) -> C:
    """The defaults and the TOML file's values, with ``missing`` for what is still to be given.

    For showing and completing, not for use: the result is not validated as a whole.

    Raises:
        ConfigError: A value in the TOML file is unusable.
    """
    toml = TomlFile.read(toml_path) if toml_path else None
    document = _merge(_skeleton(cls), toml.document if toml else {})
    try:
        cls.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        if faults := [fault for fault in error.errors() if fault["type"] != "missing"]:
            raise _config_error(cls, faults, toml, {}) from error
    return _construct(cls, document, missing)


def _construct(cls: type[C], document: Mapping[str, Any], missing: object) -> C:
    """``document``, known to be valid, over the defaults."""
    values: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        if inner := _inner(field):
            values[name] = _construct(inner, document[name], missing)
        elif name in document:
            kind: Any = Annotated[field.annotation, field]  # with its bounds and validators
            text = json.dumps(document[name], default=str)
            values[name] = TypeAdapter[Any](kind).validate_json(text)
        elif field.is_required():
            values[name] = missing
        else:
            values[name] = field.get_default(call_default_factory=True)
    return cast(C, cls.model_construct(**values))


def _inner(field: FieldInfo) -> type[Config] | None:
    """Return the nested configuration a field holds, if it holds one."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Config) else None


def _skeleton(cls: type[Config]) -> dict[str, Any]:
    """Return the tables of ``cls``, empty: so that a missing key is reported where it belongs."""
    return {
        name: _skeleton(inner)
        for name, field in cls.model_fields.items()
        if (inner := _inner(field))
    }


def _merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in above.items():
        below = merged.get(name)
        # A map of the user's (`fields`) is one value: only tables of the configuration merge.
        if isinstance(below, dict) and isinstance(value, Mapping) and name != "fields":
            value = _merge(below, value)
        merged[name] = value
    return merged


def _split_name(name: str) -> Location:
    return tuple(part.strip("\"'") for part in re.findall(_PART, name))


def _option(location: Location) -> str:
    return "--" + ".".join(location).replace("_", "-")


def _config_error(
    cls: type[Config],
    faults: Sequence[ErrorDetails],
    toml: TomlFile | None,
    given: Mapping[str, Any],
) -> ConfigError:
    return ConfigError("\n".join(_sentence(cls, fault, toml, given) for fault in faults))


def _sentence(
    cls: type[Config], fault: ErrorDetails, toml: TomlFile | None, given: Mapping[str, Any]
) -> str:
    location = tuple(str(part) for part in fault["loc"])
    dotted = ".".join(location)
    if fault["type"] == "missing":
        place = f"{toml.where(location)}: " if toml else ""
        remedy = f"give {_option(location)} or a TOML file (--config) with this key"
        return f"{place}{dotted}: is required and missing; {remedy}"
    on_command_line = _holds(given, location)
    if toml and not on_command_line:
        name = f"{toml.where(location)}: {dotted}"
    else:
        name = _option(location) if on_command_line else dotted
    if fault["type"] == "extra_forbidden":  # its value may be a secret: not shown
        return f"{name}: there is no such option{_suggestion(cls, location)}"
    shown = repr(fault["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    message = fault["msg"].removeprefix("Input ")
    if fault["type"] == "string_too_short":
        message = "should not be empty"
    return f"{name}: {message}, got {shown}"


def _holds(tree: Mapping[str, Any], location: Location) -> bool:
    value: Any = tree
    for part in location:
        if not isinstance(value, Mapping):
            return True  # inside a value, e.g. an item of a list
        if part not in value:
            return False
        value = value[part]
    return True


def _suggestion(cls: type[Config], location: Location) -> str:
    """``; did you mean …?``: the nearest option in the same table, else in those around it."""
    wanted = location[-1]
    known = list(_locations(cls, ()))
    siblings = {k[-1]: k for k in known if k[:-1] == location[:-1]}
    around = (
        # The first of equal names wins.
        {k[-1]: k for k in reversed(known) if k[:depth] == location[:depth]}
        for depth in reversed(range(len(location)))
    )
    for names in (siblings, *around):
        if near := difflib.get_close_matches(wanted, names, n=1):
            return f"; did you mean {'.'.join(names[near[0]])}?"
    return f"; known here: {', '.join(siblings)}" if siblings else ""


def _locations(cls: type[Config], prefix: Location) -> Iterator[Location]:
    for name, field in cls.model_fields.items():
        yield (*prefix, name)
        if inner := _inner(field):
            yield from _locations(inner, (*prefix, name))
