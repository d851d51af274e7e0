"""``tessy export``: write the samples of a run as training data, always as the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tessy.config.data import ExportConfig
from tessy.core.errors import ConfigError, InputError
from tessy.core.formatting import counted, size
from tessy.core.records import Trajectory
from tessy.core.registry import find_in_modules
from tessy.data.derived_run import SourceRow, rows_with_progress
from tessy.data.export import formats
from tessy.data.export.format import ExportFormat, ExportJob, ExportResult
from tessy.runtime.terminal import visible
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import read_config


@cache
def all_formats() -> Mapping[str, ExportFormat]:
    """Return the formats by name: each module of ``formats`` defines one."""
    defined: list[ExportFormat] = find_in_modules(formats, "FORMAT")
    return {item.name: item for item in sorted(defined, key=lambda item: item.name)}


def format_of(options: ExportConfig) -> ExportFormat:
    """Return the format in ``options``; raises ConfigError if one of them does not apply to it."""
    known = all_formats()
    if options.to not in known:
        raise ConfigError(f"--to: expected one of {', '.join(known)}; got {options.to!r}")
    chosen = known[options.to]
    for option in sorted(frozenset().union(*(item.options for item in known.values()))):
        default = ExportConfig.model_fields[option].default
        if option not in chosen.options and getattr(options, option) != default:
            supported = ", ".join(name for name, item in known.items() if option in item.options)
            raise ConfigError(
                f"--{option} applies only to --to {supported}; remove it for {options.to}"
            )
    return chosen


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
    _check_destination(out, config.run, export_format)
    job = ExportJob(config, document, out)
    with rows_with_progress(config.run, "Exporting") as items:
        result = export_format.write(job, _require_rows(config.run, items))
    message = f"{_describe(result, out)}\n{export_format.hint(job, result)}"
    console.print(Text(visible(message)), soft_wrap=True)
    return 0


def _require_rows(run: Path, items: Iterable[SourceRow]) -> Iterator[Trajectory]:
    """Return the rows of ``items``; raises InputError if there are none."""
    rows = (item.row for item in items)
    first = next(rows, None)
    if first is None:
        raise InputError(
            f"{run} has no finished samples to export; resume the run, or see failures.jsonl for "
            "the reasons of failures"
        )
    return chain((first,), rows)


def _check_destination(out: Path, run: Path, export_format: ExportFormat) -> None:
    """Refuse a destination that would overwrite other files or whose suffix is misleading.

    A folder may not have the suffix of a file format.
    """
    target, home, suffix = out.resolve(), run.resolve(), export_format.suffix
    if home.is_relative_to(target) or target.parent in (home, RunPaths(home).parts):
        raise InputError(
            f"--out {out} lies among the run's own files; choose a path outside {run}, or in "
            f"{run / 'export'}"
        )
    if suffix:
        if target.exists() and not target.is_file():
            raise InputError(f"--out {out} is a folder; name a file")
        if out.suffix.lower() != suffix:
            name = f"{out.stem}{suffix}"
            raise InputError(f"--out {out}: this format is a {suffix} file; name it {name}")
        return
    if out.suffix and out.suffix.lower() in {item.suffix for item in all_formats().values()}:
        raise InputError(f"--out {out}: this format is a folder, not a file; name it {out.stem}")
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    foreign = sorted({path.name for path in target.iterdir()} - export_format.entries)
    if foreign:
        raise InputError(
            f"--out {out} contains {foreign[0]!r}, which is not part of an export; choose a new or "
            "empty folder"
        )


def _describe(result: ExportResult, out: Path) -> str:
    learned = "" if result.learned is None else f" ({result.learned:,} with labels)"
    data = (path for path in out.rglob("*") if path.suffix in (".parquet", ".jsonl"))
    files = list(data) if out.is_dir() else [out]
    total = sum(path.stat().st_size for path in files)
    shards = f" in {counted(len(files), 'file')}" if out.is_dir() else ""
    text = (
        f"{out}: {counted(result.rows, 'sample')}, {counted(result.tokens, 'token')}{learned}, "
        f"{size(total)}{shards}."
    )
    if result.encoded:
        text += (
            f"\n{counted(result.encoded, 'sample')} without matching token ids (`--no-ids`, a "
            f"server without ids, an older run) {'was' if result.encoded == 1 else 'were'} "
            "tokenized again."
        )
    if result.bare:
        text += (
            f"\n{counted(result.bare, 'sample')} without text by an author with a loss weight: "
            "only markup has labels there."
        )
    return text
