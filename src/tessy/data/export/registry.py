"""All export formats: every module of ``formats`` that defines ``FORMAT``.

A new format is a new module; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from tessy.config.data import ExportConfig
from tessy.core.errors import ConfigError
from tessy.data.export import formats
from tessy.data.export.format import ExportFormat


@cache
def all_formats() -> Mapping[str, ExportFormat]:
    """Return the formats by name."""
    modules = (
        importlib.import_module(f"{formats.__name__}.{module.name}")
        for module in pkgutil.iter_modules(formats.__path__)
    )
    found: list[ExportFormat] = [m.FORMAT for m in modules if hasattr(m, "FORMAT")]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def file_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that are a file, e.g. ``.jsonl``."""
    return frozenset(one.suffix for one in all_formats().values() if one.suffix)


def format_of(options: ExportConfig) -> ExportFormat:
    """Return the format that ``options`` name.

    Raises:
        ConfigError: There is no such format, or an option is given that it does not take.
    """
    known = all_formats()
    if options.to not in known:
        raise ConfigError(f"to: expected one of {', '.join(known)}; got {options.to!r}")
    chosen = known[options.to]
    for option in sorted(frozenset().union(*(one.options for one in known.values()))):
        default = ExportConfig.model_fields[option].default
        if option not in chosen.options and getattr(options, option) != default:
            takers = ", ".join(name for name, one in known.items() if option in one.options)
            raise ConfigError(
                f"--{option} is for --to {takers} only; leave it out for {options.to}"
            )
    return chosen
