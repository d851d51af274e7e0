"""``sharegpt``: for LLaMA-Factory."""

from __future__ import annotations

import json
from typing import Any

from tessy.core.formatting import counted
from tessy.core.records import Trajectory
from tessy.data.export.format import ExportFormat, ExportJob, ExportResult, exported_id, json_lines

_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def convert(row: Trajectory) -> dict[str, Any]:
    """Return ``conversations`` of ``from`` and ``value``."""
    turns = [{"from": _ROLES[turn.role], "value": turn.content} for turn in row.messages]
    return {"id": exported_id(row), "conversations": turns}


def _hint(job: ExportJob, result: ExportResult) -> str:
    entry = f'{{"file_name": {job.quoted_out}, "formatting": "sharegpt"}}'
    name = json.dumps(job.options.run.resolve().name, ensure_ascii=False)
    return f"LLaMA-Factory, in dataset_info.json: {name}: {entry}{skipped(result)}"


def skipped(result: ExportResult) -> str:
    """Return a line on samples that LLaMA-Factory skips; empty if there are none."""
    if not result.uneven:
        return ""
    return (
        f"\nLLaMA-Factory will skip {counted(result.uneven, 'sample')}, because the roles user "
        "and assistant do not alternate."
    )


FORMAT = ExportFormat(name="sharegpt", suffix=".jsonl", write=json_lines(convert), hint=_hint)
