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


def format_of(options: ExportConfig) -> ExportFormat:
    """Return the format that ``options`` name.

    Raises:
        ConfigError: There is no such format, or an option is given that it does not take.
    """
    known = all_formats()
    if options.to not in known:
        raise ConfigError(f"to: expected one of {', '.join(known)}; got {options.to!r}")
    for name, one in known.items():
        for option in sorted(one.options):
            default = ExportConfig.model_fields[option].default
            if name != options.to and getattr(options, option) != default:
                raise ConfigError(
                    f"--{option} is for --to {name} only; leave it out for {options.to}"
                )
    return known[options.to]
