"""``looping``: thinking or answer repeat themselves."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.core.repetition import find_any_loop
from tessy.data.filter.rule import parts, text_rule


def find(row: Trajectory) -> str | None:
    """Return the repeated phrase; see :func:`tessy.core.repetition.find_any_loop`."""
    loops = ((part, find_any_loop(text)) for part, text in parts(row))
    return next((f"the {part} repeats {loop[:100]!r}" for part, loop in loops if loop), None)


RULE = text_rule("looping", 20, "thinking or answer repeat themselves", find)
