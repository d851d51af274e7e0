"""``messages``: for TRL, axolotl and XTuner."""

from __future__ import annotations

from typing import Any

from tessy.core.records import Trajectory
from tessy.data.export.format import ExportFormat, exported_id, json_lines, trl_hint, turns


def convert(row: Trajectory) -> dict[str, Any]:
    """Return ``messages`` of ``role`` and ``content``."""
    return {"id": exported_id(row), "messages": turns(row)}


FORMAT = ExportFormat(
    name="messages",
    suffix=".jsonl",
    write=json_lines(convert),
    hint=lambda job, result: trl_hint(f'"json", data_files={job.quoted_out}'),
)
