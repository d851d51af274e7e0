"""The log file of a directory, and the versions of the software in use."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def log_file(path: Path) -> Generator[None, None, None]:
    """Keep what this package logs in ``path``; show warnings."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    shown = logging.StreamHandler()  # what the user should know now
    shown.setLevel(logging.WARNING)
    logger = logging.getLogger("tessy")
    level = logger.level
    logger.setLevel(logging.INFO)
    for handler in (file, shown):
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in (file, shown):
            logger.removeHandler(handler)
            handler.close()


def software() -> dict[str, str]:
    """Versions that may decide on a row's content."""
    found = {"python": platform.python_version()}
    for name in ("tessy", "transformers", "tokenizers", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
