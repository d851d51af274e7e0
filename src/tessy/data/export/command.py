"""``tessy export``: the samples of a run as training data.

Rows are read and written one after the other, and the result takes its place when it is whole.
The same run gives the same bytes.
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
from tessy.data.derived_run import SourceRow, reading
from tessy.data.export.destination import check_place
from tessy.data.export.format import ExportJob
from tessy.data.export.registry import file_suffixes, format_of
from tessy.data.export.report import closing
from tessy.runtime.terminal import visible
from tessy.storage.run_reader import read_config


def export(config: ExportConfig, console: Console | None = None) -> int:
    """Write the samples and say what was written and how to load it; the exit code.

    Raises:
        InputError: There is no run, it is empty, the place cannot be used, or an option does not
            fit; nothing was written.
        StorageError: It could not be written; what was there is untouched.
    """
    console = console or Console()
    chosen = format_of(config)
    document = read_config(config.run)
    out = config.out or config.run / "export" / f"{config.to}{chosen.suffix}"
    check_place(out, config.run, chosen.suffix, file_suffixes())
    job = ExportJob(config, document, out)
    with reading(config.run, "Exporting") as items:
        written = chosen.write(job, _some(config.run, items))
    said = f"{closing(written, out)}\n{chosen.hint(job, written)}"
    console.print(Text(visible(said)), soft_wrap=True)
    return 0


def _some(run: Path, items: Iterable[SourceRow]) -> Iterator[Trajectory]:
    """Return the rows of ``items``, which are those of the run.

    Raises:
        InputError: There are none.
    """
    rows = (item.row for item in items)
    first = next(rows, None)
    if first is None:
        raise InputError(
            f"{run} has no finished samples, so there is nothing to export; resume the run, or "
            "see failures.jsonl for what became of its samples"
        )
    return chain((first,), rows)
