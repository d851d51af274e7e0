"""Command lines to configurations: options are fields, their help is the sentence below."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin

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
            StructFieldSpec(
                name=name,
                type=_annotation(
                    name,
                    field.annotation,
                    getattr(info.default, name),
                    by_place=info.type is root and name in positional,
                ),
                default=getattr(info.default, name),
                helptext=field.description,
            )
            for name, field in _required_first(info.type)
        ]
        if info.type is root:
            path: Any = Path | None
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


def _annotation(name: str, annotation: Any, default: object, *, by_place: bool) -> Any:  # noqa: ANN401  # any type
    """Return the field's type; ``no_ids`` is ``--no-ids`` alone, not ``--no-no-ids`` beside it."""
    if by_place:
        return Annotated[annotation, tyro.conf.Positional]
    if name.startswith("no_") and default is False:
        return Annotated[annotation, tyro.conf.FlagCreatePairsOff]
    return annotation


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
