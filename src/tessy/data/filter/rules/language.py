"""``language``: thinking or answer switch to a script other than the problem's."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.data.filter.evaluation_sets import problem_text
from tessy.data.filter.language import language_switch
from tessy.data.filter.rule import parts, text_rule


def find(row: Trajectory) -> str | None:
    """Return the switch; see :func:`tessy.data.filter.language.language_switch`."""
    problem = problem_text(row.messages)
    found = ((part, language_switch(problem, text)) for part, text in parts(row))
    return next((f"in the {part}: {switch}" for part, switch in found if switch), None)


RULE = text_rule(
    "language", 60, "thinking or answer switch to a script other than the problem's", find
)
