"""Loss weights by author (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tessy.core.errors import ConfigError
from tessy.core.records import AUTHORS, Author

Weights = Mapping[Author, float]
_NAMED: Mapping[str, Weights] = {
    "all": {"student": 1.0, "teacher": 1.0},
    "student": {"student": 1.0, "teacher": 0.0},
    "teacher": {"student": 0.0, "teacher": 1.0},
}


def parse_loss(text: str) -> Weights:
    """Return the loss weight of each author's tokens; 0 excludes them.

    Args:
        text: ``all``, ``student``, ``teacher``, or ``student=1,teacher=0.5``.

    Raises:
        ConfigError: ``text`` is invalid, or all weights are 0.
    """
    weights = _NAMED.get(text.strip()) or _weights(text)
    if not any(weights.values()):
        raise ConfigError(f"--loss {text}: all weights are 0; at least one must be positive")
    return weights


def _weights(text: str) -> Weights:
    found: dict[Author, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        author = next((author for author in AUTHORS if author == name), None)
        weight = _number(number)
        if author is None or author in found or weight is None:
            break
        found[author] = weight
    else:
        if len(found) == len(AUTHORS):
            return found
    raise ConfigError(
        f"--loss: expected all, student, teacher, or non-negative weights such as "
        f"student=1,teacher=0.5; got {text!r}"
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
