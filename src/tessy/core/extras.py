"""Checks that optional libraries are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from tessy.core.errors import ConfigError


def check_installed(purpose: str, libraries: Mapping[str, str]) -> None:
    """Raise ConfigError unless all ``libraries`` can be found; imports none of them.

    Each is mapped to the extra of tessy that installs it; ``purpose`` starts the message.
    """
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(dict.fromkeys(libraries[name] for name in missing))
        raise ConfigError(
            f"{purpose} needs {' and '.join(missing)}, not installed here: "
            f'pip install "tessy[{extras}]"'
        )
