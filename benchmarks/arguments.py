"""Types of command-line arguments, checked before anything is measured."""

from __future__ import annotations

import argparse
from pathlib import Path


def whole_number(text: str) -> int:
    """Return a whole number of at least 1."""
    return int(_above_zero(text, int(text)))


def count(text: str) -> int:
    """Return a whole number of at least 0."""
    return int(_not_below_zero(text, int(text)))


def positive(text: str) -> float:
    """Return a number above 0."""
    return _above_zero(text, float(text))


def not_negative(text: str) -> float:
    """Return a number of at least 0."""
    return _not_below_zero(text, float(text))


def new_file(text: str) -> Path:
    """Return a path whose folder exists."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in an existing folder")
    return path


def _above_zero(text: str, value: float) -> float:
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def _not_below_zero(text: str, value: float) -> float:
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value
