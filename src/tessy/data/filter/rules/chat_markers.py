"""``chat_markers``: markup of a chat format in thinking or answer."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.data.filter import texts
from tessy.data.filter.evaluation_sets import problem_text
from tessy.data.filter.rule import parts, text_rule


def find(row: Trajectory) -> str | None:
    """Return the marker and its place; see :func:`tessy.data.filter.texts.chat_markers`."""
    problem = problem_text(row.messages)
    found = ((part, texts.chat_markers(problem, text)) for part, text in parts(row))
    return next((f"in the {part}: {marker}" for part, marker in found if marker), None)


RULE = text_rule("chat_markers", 50, "markup of a chat format in thinking or answer", find)
