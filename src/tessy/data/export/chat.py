"""Rows in the formats of chat trainers, one JSON object per line (pure).

An exported ``id`` is ``<problem id>/<sample>``, because a problem may have several samples.
"""

from __future__ import annotations

from tessy.core.records import Trajectory


def exported_id(row: Trajectory) -> str:
    """Return the id of a sample outside its run."""
    return f"{row.id}/{row.sample}"


def alternates(row: Trajectory) -> bool:
    """Return whether user and assistant alternate, after at most one system message.

    LLaMA-Factory skips other conversations, with only a warning in its log.
    """
    roles = [turn.role for turn in row.messages]
    if roles[0] == "system":
        del roles[0]
    return roles == ["user", "assistant"] * (len(roles) // 2)


def turns(row: Trajectory) -> list[dict[str, str]]:
    """Return the turns of a row as ``role`` and ``content``."""
    return [{"role": turn.role, "content": turn.content} for turn in row.messages]
