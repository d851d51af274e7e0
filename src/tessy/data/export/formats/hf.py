"""``hf``: a folder of Parquet shards with a data card, for ``datasets``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tessy.core.records import Trajectory
from tessy.data.export.format import ADVICE, ExportFormat, ExportJob, ExportResult, trl_hint
from tessy.runtime.summary import Summary
from tessy.storage import jsonl
from tessy.storage.atomic import new_folder
from tessy.storage.cards import write_readme
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures


def _write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
    from tessy.data.export.card import data_card
    from tessy.data.export.parquet import write_shards

    result, summary = ExportResult(), Summary()
    methods: Counter[tuple[str, str]] = Counter()
    traces: set[str] = set()

    def count() -> Iterator[Trajectory]:
        for row in rows:
            summary.add(row)
            methods[row.strategy, row.answer_by] += 1
            traces.update([row.restyle.trace] if row.restyle is not None else ())
            yield result.add(row)

    run = job.options.run
    with new_folder(job.out, ADVICE) as folder:
        write_shards(count(), folder / "data")
        for failure in iter_failures(run):
            summary.add_failure(failure)
        card = data_card(
            run.resolve().name,
            job.document,
            summary.result(),
            methods,
            _read_summary(run),
            traces=traces,
            licence=job.options.licence,
        )
        write_readme(folder, card)
    return result


def _read_summary(run: Path) -> dict[str, Any]:
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
    hint=lambda job, result: trl_hint(job.quoted_out),
    options=frozenset({"licence"}),
    entries=frozenset({"README.md", "data"}),
)
