"""``dialogs``: the format of TESSY-Code-80K; for XTuner."""

from __future__ import annotations

from typing import Any

from tessy.core.records import Trajectory
from tessy.data.export.format import ExportFormat, exported_id, json_lines, turns


def convert(row: Trajectory) -> dict[str, Any]:
    """Return ``id_ddm`` and ``dialogs`` of ``role`` and ``content``."""
    return {"id_ddm": exported_id(row), "dialogs": turns(row)}


FORMAT = ExportFormat(
    name="dialogs",
    suffix=".jsonl",
    write=json_lines(convert),
    hint=lambda job, result: (
        f"XTuner: DatasetConfig(anno_path={job.quoted_out}) with "
        'OpenaiTokenizeFunctionConfig(chat_template="…")'
    ),
)
