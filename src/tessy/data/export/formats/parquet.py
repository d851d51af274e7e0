"""``parquet``: all fields of a row."""

from __future__ import annotations

from collections.abc import Iterable

from tessy.core.records import Trajectory
from tessy.data.export.format import ADVICE, ExportFormat, ExportJob, ExportResult, trl_hint
from tessy.storage.atomic import new_file


def _write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
    from tessy.data.export.parquet import TRAJECTORY_SCHEMA, ParquetRows

    result = ExportResult()
    with new_file(job.out, ADVICE) as path, ParquetRows(path, TRAJECTORY_SCHEMA) as table:
        for row in rows:
            table.add_trajectory(result.add(row))
    return result


FORMAT = ExportFormat(
    name="parquet",
    suffix=".parquet",
    write=_write,
    hint=lambda job, result: trl_hint(f'"parquet", data_files={job.quoted_out}'),
)
