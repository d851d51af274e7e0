"""Log file of a run, and versions of the software that made it."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def log_file(path: Path) -> Generator[None, None, None]:
    """Append log records of tessy to ``path``, and print warnings to standard error."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING)
    logger = logging.getLogger("tessy")
    level = logger.level
    logger.setLevel(logging.INFO)
    for handler in (file, console):
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in (file, console):
            logger.removeHandler(handler)
            handler.close()


def software() -> dict[str, str]:
    """Return versions of Python and of libraries that affect the content of rows."""
    found = {"python": platform.python_version()}
    for name in ("tessy", "transformers", "tokenizers", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
