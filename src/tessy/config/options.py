"""Parsing of command lines: options are the fields of a configuration, with their docstrings."""

from __future__ import annotations

import argparse
import inspect
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import tyro
from pydantic.fields import FieldInfo
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from tessy.config.base import Config
from tessy.config.toml import load_config, partial_config
from tessy.core.errors import ConfigError

C = TypeVar("C", bound=Config)

_CONFIG_HELP = (
    "TOML file with any of these options. Options on the command line override it; the value "
    "`None` unsets one."
)


def parse(
    cls: type[C], arguments: Sequence[str], *, prog: str, positional: Collection[str] = ()
) -> C:
    """Parse a command line; print and exit with ``--help`` (0) or an unknown option (2).

    ``arguments`` follow the command's name; ``positional`` fields are positional arguments. Raises
    ConfigError for an invalid value, here or in the ``--config`` file, and for paths, lists or maps
    that are given twice.
    """
    _check_once(cls, arguments)
    toml_path = _config_path(arguments)
    untyped_cls: Any = cls  # tyro returns the dict of the struct rule, not a `cls`
    defaults: Any = partial_config(cls, toml_path, tyro.MISSING)
    values: dict[str, Any] = tyro.cli(
        untyped_cls,
        prog=prog,
        description=inspect.getdoc(cls),
        args=arguments,
        # With values of the TOML file as defaults, the help shows them, and an option overrides
        # the file even with a value that is the built-in default.
        default=defaults,
        registry=_registry(cls, toml_path, positional),
    )
    values.pop("config")
    return load_config(cls, toml_path, values)


def _check_once(cls: type[Config], arguments: Sequence[str]) -> None:
    """Raise ConfigError for paths, lists or maps that are given twice.

    Only the last one would be used. Other options may be repeated to override earlier ones.
    """
    given = Counter(text.partition("=")[0].replace("_", "-") for text in arguments)
    for name, annotation in (("config", Path), *_annotations(cls)):
        option = f"--{name.replace('_', '-')}"
        types = (annotation, *get_args(annotation))
        if given[option] < 2 or not (Path in types or get_origin(annotation) in (tuple, dict)):
            continue
        advice = "give it once"
        if get_origin(annotation) in (tuple, dict):
            between = "spaces" if Path in types else "commas"
            advice = f"give all values after one name, with {between} between them"
        raise ConfigError(f"{option}: is given twice, and only the last would be used; {advice}")


def _annotations(cls: type[Config], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the type of every option."""
    for name, field in cls.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Config):
            yield from _annotations(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


def _config_path(arguments: Sequence[str]) -> Path | None:
    """Return the file after ``--config``, which is read before tyro parses the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", nargs="?", const="")
    path = parser.parse_known_args(arguments)[0].config
    if path == "":
        raise ConfigError("--config: expected the name of a TOML file")
    return None if path is None else Path(path)


def _registry(
    root: type[Config], toml_path: Path | None, positional: Collection[str]
) -> ConstructorRegistry:
    """Return tyro's rules for our types: configurations as dicts, lists and maps with commas."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def _(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not (isinstance(info.type, type) and issubclass(info.type, Config)):
            return None
        fields = [
            _field(
                name,
                field,
                getattr(info.default, name),
                positional=info.type is root and name in positional,
            )
            for name, field in sorted(
                info.type.model_fields.items(), key=lambda item: not item[1].is_required()
            )
        ]
        if info.type is root:
            path: Any = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
            if toml_path is None:
                path = Annotated[path, tyro.conf.arg(help_behavior_hint="(optional)")]
            fields.insert(0, StructFieldSpec("config", path, toml_path, _CONFIG_HELP))
        return StructConstructorSpec(instantiate=dict, fields=tuple(fields))

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if get_origin(info.type) is dict:
            return _COMMA_MAP
        # Strings are separated by commas, paths by spaces.
        return _COMMA_LIST if info.type == tuple[str, ...] else None

    return registry


def _field(name: str, field: FieldInfo, default: object, *, positional: bool) -> StructFieldSpec:
    """Return the option of a field.

    In the docstring of a field, the words after "None:" describe its default: the help shows
    ``(default: all)`` for "; None: all.".
    """
    annotation: Any = field.annotation
    docstring = " ".join((field.description or "").split())
    sentence, _, meaning_of_none = docstring.removesuffix(".").partition("; None: ")
    if positional:
        metavar, hint = name.upper(), None
        if default == ():  # of type tuple[Path, ...]
            metavar, hint = f"{metavar} [{metavar} ...]", "(required)"
        annotation = Annotated[annotation, tyro.conf.Positional]
        annotation = _show(annotation, metavar=metavar, hint=hint)
    elif default in (None, (), {}):
        hint = f"(default: {meaning_of_none})" if meaning_of_none else "(optional)"
        annotation = _show(annotation, metavar=_metavar(annotation), hint=hint)
    elif name.startswith("no_") and default is False:  # no --no-no-ids
        annotation = Annotated[annotation, tyro.conf.FlagCreatePairsOff]
    else:
        annotation = _show(annotation, metavar=_metavar(annotation))
    return StructFieldSpec(name=name, type=annotation, default=default, helptext=f"{sentence}.")


def _show(annotation: Any, *, metavar: str | None, hint: str | None = None) -> Any:  # noqa: ANN401  # any type
    if metavar is None and hint is None:
        return annotation
    return Annotated[annotation, tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)]


def _metavar(annotation: Any) -> str | None:  # noqa: ANN401  # any type
    """Return ``INT`` or ``{student,teacher}`` for ``X | None``; None for other types."""
    types = get_args(annotation)
    if type(None) not in types:
        return None
    (inner,) = (member for member in types if member is not type(None))
    choices = get_args(inner)
    return f"{{{','.join(choices)}}}" if choices else str(inner.__name__).upper()


def _pairs(text: str) -> dict[str, str]:
    parts = re.findall(r'(?:[^,"]|"[^"]*")+', text)
    pairs = [part.partition("=") for part in parts if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError(f"expected KEY=NAME,KEY=NAME…, got {text!r}")
    keys = [key.strip() for key, _, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"a key occurs twice in {text!r}; the map applies to all files")
    return {key.strip(): name.strip().strip('"') for key, _, name in pairs}


def _quoted(name: str) -> str:
    return f'"{name}"' if "," in name else name


_COMMA_LIST: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="STR[,STR…]",
    instance_from_str=lambda arguments: arguments[0],  # split by the field's validator
    is_instance=lambda value: isinstance(value, tuple),
    str_from_instance=lambda value: [",".join(value)],
)
_COMMA_MAP: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="KEY=NAME[,…]",
    instance_from_str=lambda arguments: _pairs(arguments[0]),
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=lambda value: [
        ",".join(f"{key}={_quoted(name)}" for key, name in value.items())
    ],
)
