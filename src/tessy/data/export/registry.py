"""All export formats: every module of ``formats`` that defines ``FORMAT``.

To add a format, add a module; no other code names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tessy.config.data import ExportConfig
from tessy.core.errors import ConfigError
from tessy.core.registry import find_in_modules
from tessy.data.export import formats
from tessy.data.export.format import ExportFormat


@cache
def all_formats() -> Mapping[str, ExportFormat]:
    """Return the formats by name."""
    found: list[ExportFormat] = find_in_modules(formats, "FORMAT")
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}


def file_suffixes() -> frozenset[str]:
    """Return the suffixes of all file formats, e.g. ``.jsonl``."""
    return frozenset(item.suffix for item in all_formats().values() if item.suffix)


def format_of(options: ExportConfig) -> ExportFormat:
    """Return the format in ``options``.

    Raises:
        ConfigError: The format is unknown, or an option does not apply to it.
    """
    known = all_formats()
    if options.to not in known:
        raise ConfigError(f"to: expected one of {', '.join(known)}; got {options.to!r}")
    chosen = known[options.to]
    for option in sorted(frozenset().union(*(item.options for item in known.values()))):
        default = ExportConfig.model_fields[option].default
        if option not in chosen.options and getattr(options, option) != default:
            supported = ", ".join(name for name, item in known.items() if option in item.options)
            raise ConfigError(
                f"--{option} applies only to --to {supported}; remove it for {options.to}"
            )
    return chosen
