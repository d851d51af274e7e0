"""``hf``: a folder of Parquet shards with a data card, for ``datasets``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tessy.core.records import Trajectory
from tessy.data.export.destination import ADVICE
from tessy.data.export.format import CHAT_REMARK, ExportFormat, ExportJob, trl_hint
from tessy.data.export.report import ExportResult
from tessy.storage import jsonl
from tessy.storage.atomic import new_folder
from tessy.storage.cards import write_readme
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures


def _write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
    from tessy.data.export.card import DataCardFacts, data_card
    from tessy.data.export.hub import write_shards

    result, facts = ExportResult(), DataCardFacts()
    with new_folder(job.out, ADVICE) as folder:
        write_shards(map(result.add, rows), folder / "data", facts)
        for failure in iter_failures(job.options.run):
            facts.summary.add_failure(failure)
        name = job.options.run.resolve().name
        card = data_card(
            name, job.document, facts, _summary(job.options.run), licence=job.options.licence
        )
        write_readme(folder, card)
    return result


def _summary(run: Path) -> dict[str, Any]:
    """Return the content of summary.json; empty if the run has not ended."""
    try:
        content = jsonl.loads(RunPaths(run).summary.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


FORMAT = ExportFormat(
    name="hf",
    suffix="",
    write=_write,
    hint=lambda job, result: trl_hint(job.quoted_out, CHAT_REMARK),
    options=frozenset({"licence"}),
)
