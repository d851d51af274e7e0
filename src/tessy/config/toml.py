"""Loading of configurations from TOML files and overrides; errors name file, line and option."""

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
    """A TOML document with the line number of each key."""

    path: Path
    text: str
    document: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> TomlFile:
        """Read ``path``; raises ConfigError if it is not valid TOML."""
        try:
            text = path.read_text("utf-8-sig")
            return cls(path, text, tomllib.loads(text))
        except OSError as error:
            raise ConfigError(f"{path}: cannot read this TOML file: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: is not valid TOML: {error}") from error

    @cached_property
    def _lines(self) -> dict[Location, int]:
        """1-based line of each key and table; keys of an inline table are not included."""
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
        """Return ``file:line`` of a key or of its innermost table; the file alone without one."""
        for end in range(len(location), 0, -1):
            if location[:end] in self._lines:
                return f"{self.path}:{self._lines[location[:end]]}"
        return str(self.path)


def load_config(
    cls: type[C], toml_path: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> C:
    """Load a configuration: overrides replace values of the TOML file, and those the defaults.

    Tables of the file and mappings in ``overrides`` are the nested models (``[student.sampling]``).
    The ConfigError lists every invalid value, each with file and line, or its option.
    """
    toml = TomlFile.read(toml_path) if toml_path else None
    overrides = overrides or {}
    _check_text(overrides, ())
    document = _merge(_skeleton(cls), _merge(toml.document if toml else {}, overrides))
    try:
        # Strict JSON rejects "5" as a number and 1 as a flag, but accepts a string as a path.
        return cls.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        raise _config_error(cls, error.errors(), toml, overrides) from error


def _check_text(value: object, location: Location) -> None:
    """Raise ConfigError for a value that is not Unicode text, such as an undecodable file name."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_text(inner, (*location, str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            _check_text(item, location)
    else:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{_option(location)}: {str(value)!a} is not UTF-8 text; rename the file"
            ) from None


def partial_config(cls: type[C], toml_path: Path | None, missing: object) -> C:
    """Return the defaults with the TOML file's values; ``missing`` replaces absent required ones.

    The result is not validated as a whole: it only provides defaults for the command line.
    """
    toml = TomlFile.read(toml_path) if toml_path else None
    document = _merge(_skeleton(cls), toml.document if toml else {})
    try:
        cls.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        if invalid := [details for details in error.errors() if details["type"] != "missing"]:
            raise _config_error(cls, invalid, toml, {}) from error
    return _construct(cls, document, missing)


def _construct(cls: type[C], document: Mapping[str, Any], missing: object) -> C:
    """Construct ``cls`` from a document that is valid apart from missing values."""
    values: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        if inner := _inner(field):
            values[name] = _construct(inner, document[name], missing)
        elif name in document:
            annotation: Any = Annotated[field.annotation, field]  # with its bounds and validators
            text = json.dumps(document[name], default=str)
            values[name] = TypeAdapter[Any](annotation).validate_json(text)
        elif field.is_required():
            values[name] = missing
        else:
            values[name] = field.get_default(call_default_factory=True)
    return cast(C, cls.model_construct(**values))


def _inner(field: FieldInfo) -> type[Config] | None:
    """Return the class of a nested configuration; None for other fields."""
    cls = field.annotation
    return cls if isinstance(cls, type) and issubclass(cls, Config) else None


def _skeleton(cls: type[Config]) -> dict[str, Any]:
    """Return the empty tables of ``cls``, so that errors name each missing key, not its table."""
    return {
        name: _skeleton(inner)
        for name, field in cls.model_fields.items()
        if (inner := _inner(field))
    }


def _merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in above.items():
        below = merged.get(name)
        # `fields` is a single value: only tables of the configuration are merged.
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
    errors: Sequence[ErrorDetails],
    toml: TomlFile | None,
    overrides: Mapping[str, Any],
) -> ConfigError:
    return ConfigError("\n".join(_describe(cls, details, toml, overrides) for details in errors))


def _describe(
    cls: type[Config], details: ErrorDetails, toml: TomlFile | None, overrides: Mapping[str, Any]
) -> str:
    location = tuple(str(part) for part in details["loc"])
    dotted = ".".join(location)
    if details["type"] == "missing":
        if toml:
            return (
                f"{toml.where(location)}: {dotted}: is required and missing; add this key, or "
                f"give {_option(location)}"
            )
        option = _option(location)
        return f"{option}: is required and missing; give it, or a TOML file (--config) with it"
    on_command_line = _contains(overrides, location)
    name = _option(location)
    if toml and not on_command_line:
        name = f"{toml.where(location)}: {dotted}"
    if details["type"] == "extra_forbidden":  # the value may be a secret
        return f"{name}: there is no such option{_suggestion(cls, location)}"
    value = repr(details["input"])
    value = value if len(value) <= 80 else f"{value[:79]}…"
    message = details["msg"].removeprefix("Input ")
    if details["type"] == "string_too_short":
        message = "should not be empty"
    return f"{name}: {message}, got {value}"


def _contains(tree: Mapping[str, Any], location: Location) -> bool:
    value: Any = tree
    for part in location:
        if not isinstance(value, Mapping):
            return True  # a part of a value, e.g. an item of a list
        if part not in value:
            return False
        value = value[part]
    return True


def _suggestion(cls: type[Config], location: Location) -> str:
    """Return ``; did you mean …?`` with a similar option of the same table or of outer ones."""
    known = list(_locations(cls, ()))
    siblings = {k[-1]: k for k in known if k[:-1] == location[:-1]}
    outer = (
        # Of equal names, the first is suggested.
        {k[-1]: k for k in reversed(known) if k[:depth] == location[:depth]}
        for depth in reversed(range(len(location)))
    )
    for names in (siblings, *outer):
        if matches := difflib.get_close_matches(location[-1], names, n=1):
            return f"; did you mean {'.'.join(names[matches[0]])}?"
    return f"; known here: {', '.join(siblings)}" if siblings else ""


def _locations(cls: type[Config], prefix: Location) -> Iterator[Location]:
    for name, field in cls.model_fields.items():
        yield (*prefix, name)
        if inner := _inner(field):
            yield from _locations(inner, (*prefix, name))
