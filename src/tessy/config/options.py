"""Command lines to configurations: options are fields, their help is the sentence below."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
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

_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}
_CONFIG_HELP = "TOML file with any of these options; what is given here wins over it."


def parse(
    cls: type[C], arguments: Sequence[str], *, prog: str, positional: Collection[str] = ()
) -> C:
    """Read a command line; with ``--help`` or an unusable option, print and exit (0 or 2).

    Args:
        cls: The command's configuration.
        arguments: The command line after the command's name.
        prog: Command name for the help.
        positional: Fields that are given by their place, without a name.

    Raises:
        ConfigError: A value is unusable, here or in the ``--config`` file.
        SystemExit: After the help, or after a message on an option that does not exist.
    """
    toml_path = _config_path(arguments)
    kind: Any = cls  # our struct rule makes a dict of it, which tyro's types cannot say
    defaults: Any = partial_config(cls, toml_path, tyro.MISSING)
    values: dict[str, Any] = tyro.cli(
        kind,
        prog=prog,
        description=inspect.getdoc(cls),
        args=arguments,
        # The TOML's values become the defaults, so the help shows what a run would use, and
        # an option counts as given even when it repeats the built-in default.
        default=defaults,
        registry=_registry(cls, toml_path, positional),
    )
    values.pop("config")
    return load_config(cls, toml_path, values)


def _config_path(arguments: Sequence[str]) -> Path | None:
    """Return the file after ``--config``; its values are the defaults that tyro needs."""
    path = None
    for index, argument in enumerate(arguments):
        if argument == "--config":
            if index + 1 == len(arguments):
                raise ConfigError("--config: the name of a TOML file must follow")
            path = Path(arguments[index + 1])
        elif argument.startswith("--config="):
            path = Path(argument.removeprefix("--config="))
    return path


def _registry(
    root: type[Config], toml_path: Path | None, positional: Collection[str]
) -> ConstructorRegistry:
    """How tyro reads our types: configurations as plain dicts, lists and maps with commas."""
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
                by_place=info.type is root and name in positional,
            )
            for name, field in _required_first(info.type)
        ]
        if info.type is root:
            path: Any = Annotated[Path | None, _shown(Path | None, "")]
            fields.insert(0, StructFieldSpec("config", path, toml_path, _CONFIG_HELP))
        return StructConstructorSpec(instantiate=dict, fields=tuple(fields))

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if get_origin(info.type) is dict:
            return _COMMA_MAP
        # Lists of text come with commas; files given by their place come one by one.
        return _COMMA_LIST if info.type == tuple[str, ...] else None

    return registry


def _required_first(cls: type[Config]) -> list[tuple[str, FieldInfo]]:
    return sorted(cls.model_fields.items(), key=lambda item: not item[1].is_required())


def _field(name: str, field: FieldInfo, default: object, *, by_place: bool) -> StructFieldSpec:
    """Return how the command line reads a field and shows it in the help.

    ``no_ids`` is ``--no-ids`` alone, without ``--no-no-ids`` beside it. The words after "None:" in
    the sentence under a field are shown as its default.
    """
    kind: Any = field.annotation
    sentence = " ".join((field.description or "").split())  # it may span several lines
    description, _, absent = sentence.partition("; None: ")
    if by_place:
        kind = Annotated[kind, tyro.conf.Positional]
    elif name.startswith("no_") and default is False:
        kind = Annotated[kind, tyro.conf.FlagCreatePairsOff]
    elif default in (None, (), {}):
        sentence = f"{description.rstrip('.')}."
        kind = Annotated[kind, _shown(kind, absent.rstrip("."))]
    elif type(None) in get_args(kind):  # with a value from the TOML file
        kind = Annotated[kind, tyro.conf.arg(metavar=_metavar(kind))]
    return StructFieldSpec(name=name, type=kind, default=default, helptext=sentence)


def _shown(kind: Any, absent: str) -> Any:  # noqa: ANN401  # any type; tyro's marker
    """Return how an option without a value is shown: ``--limit INT``, ``(default: all)``."""
    hint = f"(default: {absent})" if absent else "(optional)"
    metavar = _metavar(kind) if type(None) in get_args(kind) else None
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


def _metavar(kind: Any) -> str:  # noqa: ANN401  # any type
    """Return how the values of ``X | None`` are shown: ``INT``, ``{student,teacher}``."""
    (inner,) = (part for part in get_args(kind) if part is not type(None))
    choices = get_args(inner)
    return f"{{{','.join(choices)}}}" if choices else _METAVARS[inner]


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError(f"expected KEY=NAME,KEY=NAME…, got {text!r}")
    return {key.strip(): name.strip() for key, _, name in pairs}


_COMMA_LIST: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="STR[,STR…]",
    instance_from_str=lambda arguments: arguments[0],  # the field's type splits it
    is_instance=lambda value: isinstance(value, tuple),
    str_from_instance=lambda value: [",".join(value)],
)
_COMMA_MAP: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="KEY=NAME[,…]",
    instance_from_str=lambda arguments: _pairs(arguments[0]),
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=lambda value: [",".join(f"{key}={name}" for key, name in value.items())],
)
