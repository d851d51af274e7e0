"""Rows as chat trainers read them: one JSON object a line (pure).

An exported ``id`` is ``<problem's id>/<sample>``, for a problem may have several samples.
"""

from __future__ import annotations

from tessy.core.records import Trajectory


def exported_id(row: Trajectory) -> str:
    """Return what identifies a sample outside of its run."""
    return f"{row.id}/{row.sample}"


def alternates(row: Trajectory) -> bool:
    """Return whether the turns are one system message at most, then user and assistant by turns.

    LLaMA-Factory leaves other conversations out, with no more than a warning in its log.
    """
    roles = [turn.role for turn in row.messages]
    if roles[0] == "system":
        del roles[0]
    return roles == ["user", "assistant"] * (len(roles) // 2)


def turns(row: Trajectory) -> list[dict[str, str]]:
    """Return the turns of a row as ``role`` and ``content``."""
    return [{"role": turn.role, "content": turn.content} for turn in row.messages]
