"""Commands for tests of the command line."""

from __future__ import annotations

from tessy.cli import Command
from tessy.config.base import Config


class Options(Config):
    """Options of a command."""

    a: str = ""
    """An option."""


raised: list[BaseException] = []
seen: list[str] = []


def fail(config: Options) -> int:
    raise raised[-1]


def count(config: Options) -> int:
    seen.append(config.a)
    return 130


FAIL = Command("Fails", f"{__name__}:Options", f"{__name__}:fail")
COUNT = Command("Counts", f"{__name__}:Options", f"{__name__}:count")
