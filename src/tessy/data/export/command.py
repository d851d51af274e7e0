"""``tessy export``: write the samples of a run as training data.

Rows are streamed, and the result is moved into place when it is complete. The same run always gives
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tessy.config.data import ExportConfig
from tessy.core.errors import InputError
from tessy.core.records import Trajectory
from tessy.data.derived_run import SourceRow, rows_with_progress
from tessy.data.export.destination import check_destination
from tessy.data.export.format import ExportJob
from tessy.data.export.registry import file_suffixes, format_of
from tessy.data.export.report import describe_result
from tessy.runtime.terminal import visible
from tessy.storage.run_reader import read_config


def export(config: ExportConfig, console: Console | None = None) -> int:
    """Write the samples, print how to load them, and return the exit code.

    Raises:
        InputError: The run is missing or empty, the destination cannot be used, or an option does
            not apply; nothing was written.
        StorageError: The export could not be written; an earlier one is unchanged.
    """
    console = console or Console()
    export_format = format_of(config)
    document = read_config(config.run)
    out = config.out or config.run / "export" / f"{config.to}{export_format.suffix}"
    check_destination(out, config.run, export_format.suffix, file_suffixes())
    job = ExportJob(config, document, out)
    with rows_with_progress(config.run, "Exporting") as items:
        result = export_format.write(job, _require_rows(config.run, items))
    message = f"{describe_result(result, out)}\n{export_format.hint(job, result)}"
    console.print(Text(visible(message)), soft_wrap=True)
    return 0


def _require_rows(run: Path, items: Iterable[SourceRow]) -> Iterator[Trajectory]:
    """Return the rows of ``items``.

    Raises:
        InputError: ``items`` is empty.
    """
    rows = (item.row for item in items)
    first = next(rows, None)
    if first is None:
        raise InputError(
            f"{run} has no finished samples to export; resume the run, or see failures.jsonl for "
            "the reasons of failures"
        )
    return chain((first,), rows)
