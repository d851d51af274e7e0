"""Rows as chat trainers read them: one JSON object a line (pure).

An exported ``id`` is ``<question's id>/<sample>``, for a question may have several samples.
"""

from __future__ import annotations

from typing import Any

from tessy.core.records import Message, Trajectory

_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


def exported_id(row: Trajectory) -> str:
    """What identifies a sample outside of its run."""
    return f"{row.id}/{row.sample}"


def messages(row: Trajectory) -> dict[str, Any]:
    """TRL, axolotl, XTuner: ``messages`` of ``role`` and ``content``."""
    return {"id": exported_id(row), "messages": _turns(row.messages)}


def sharegpt(row: Trajectory) -> dict[str, Any]:
    """LLaMA-Factory (``sharegpt``): ``conversations`` of ``from`` and ``value``."""
    turns = [{"from": _SHAREGPT[turn.role], "value": turn.content} for turn in row.messages]
    return {"id": exported_id(row), "conversations": turns}


def dialogs(row: Trajectory) -> dict[str, Any]:
    """TESSY-Code-80K, and XTuner: ``id_ddm`` and ``dialogs`` of ``role`` and ``content``."""
    return {"id_ddm": exported_id(row), "dialogs": _turns(row.messages)}


def alternates(row: Trajectory) -> bool:
    """Whether the turns are one system message at most, then user and assistant by turns.

    LLaMA-Factory leaves other conversations out, with no more than a warning in its log.
    """
    roles = [turn.role for turn in row.messages]
    if roles[0] == "system":
        del roles[0]
    return roles == ["user", "assistant"] * (len(roles) // 2)


def _turns(turns: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]
