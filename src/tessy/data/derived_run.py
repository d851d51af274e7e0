"""Runs derived from finished runs: the output of ``tessy mix`` and ``tessy filter``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tessy.core.errors import RunError, StorageError
from tessy.core.records import Key, Trajectory
from tessy.runtime.log import software
from tessy.runtime.progress import SteadyConsole
from tessy.runtime.summary import Summary
from tessy.storage import jsonl, run_config
from tessy.storage.atomic import archive_path, beside, make_directory, publish_folder
from tessy.storage.lock import FileLock
from tessy.storage.run_dir import check_is_run
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import TRAJECTORIES, read_config


class SourceRow(NamedTuple):
    """A row of a run, and its line in the file with the newline."""

    line: bytes
    row: Trajectory


def source_rows(directory: str | Path) -> Iterator[SourceRow]:
    """Yield the rows of a run, as :func:`iter_trajectories` does, with their lines."""
    read_config(directory)
    files = RunPaths(directory).row_files()
    places = jsonl.last_rows(files, jsonl.row_key)
    for path in files:
        for line in jsonl.read_lines(path):
            if places.get(jsonl.row_key(path, line)) == (path, line.offset):
                row = jsonl.parse_row(Trajectory, path, line)
                yield SourceRow(line.content.rstrip(b"\r\n") + b"\n", row)


@contextlib.contextmanager
def rows_with_progress(
    directory: str | Path, label: str, console: Console | None = None
) -> Iterator[Iterator[SourceRow]]:
    """Return :func:`source_rows`, with a progress bar if the console (stderr) is a terminal."""
    console = console or SteadyConsole(stderr=True)
    rows = source_rows(directory)
    if not console.is_terminal:
        yield rows
        return
    size = sum(path.stat().st_size for path in RunPaths(directory).row_files())
    columns = (TextColumn(label), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=size)

        def advance() -> Iterator[SourceRow]:
            for item in rows:
                yield item
                bar.advance(task, len(item.line))

        yield advance()


class DerivedRun:
    """A derived run, built beside ``out`` and moved into place when the block succeeds.

    On an exception it is removed, and the previous content of ``out`` stays unchanged. A killed
    process leaves ``<out>.partial-<random>`` behind, which can be deleted. The data_config contains
    the entries that all sources share, and ``derived``: the command ``by`` and the sources. No
    other command writes that key, so none resumes the run by mistake.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        by: str,
        sources: Sequence[str | Path],
        options: Mapping[str, object],
        fresh: bool = False,
    ) -> None:
        """Start a run from the rows of ``sources`` with the ``options`` of the command.

        ``out`` must not exist or must be empty, unless ``fresh``: then a run there is moved to
        ``<out>.old-<n>`` when the new one is complete.

        Raises:
            RunError: A source is not a run, or is ``out`` or inside it; ``out`` is not empty, is
                not a run, or is in use; the directory cannot be created.
        """
        self.notes: dict[str, Any] = {}  # additional entries of summary.json, set by the command
        self._files: dict[str, BinaryIO] = {}
        self._keys: set[Key] = set()
        self._counted = Summary()
        documents = [read_config(source) for source in sources]
        self.out = target = Path(out).resolve()  # replaces the target of a link, not the link
        for source in sources:
            if Path(source).resolve().is_relative_to(target):
                raise RunError(
                    f"--out {out} contains the source {source}; choose another directory"
                )
        try:
            with ExitStack() as stack:
                self._replaces = _check_target(Path(out), target, fresh=fresh)
                if self._replaces:
                    stack.enter_context(FileLock(RunPaths(target).lock))
                self.directory = beside(target, "partial")
                stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
                make_directory(target.parent)
                self.directory.mkdir()
                _write_config(self.directory, by, sources, documents, options)
                self._rows = RunPaths(self.directory).rows.name
                self._held = stack
                self._file(self._rows)  # exists even if no row is added
                self._held = stack.pop_all()
        except OSError as error:
            raise RunError(
                f"{out} cannot be created: {error}; fix it or choose another --out"
            ) from error

    def add(self, row: Trajectory, line: bytes | None = None) -> int:
        """Add a row, and return its offset for :meth:`read`.

        ``line`` is the row's line in its source, copied byte for byte; None: serialize the row.
        """
        if row.key in self._keys:
            raise ValueError(f"the run already has a row with the key {row.key}")
        self._keys.add(row.key)
        self._counted.add(row)
        offset = self._file(self._rows).tell()
        self.write(self._rows, line if line is not None else jsonl.dump_line(row.model_dump()))
        return offset

    def read(self, offset: int) -> Trajectory:
        """Return an added row, read from disk; StorageError if buffered rows cannot be written."""
        try:
            self._file(self._rows).flush()
            with (self.directory / self._rows).open("rb") as file:
                file.seek(offset)
                return Trajectory.model_validate(jsonl.loads(file.readline()))
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, name: str, line: bytes) -> None:
        """Append ``line`` to the file ``name`` of the run; raises StorageError."""
        try:
            self._file(name).write(line)
        except OSError as error:
            raise self._unwritable(error) from error

    def __len__(self) -> int:
        """Return the number of rows added so far."""
        return len(self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._held:
            if kind is None:
                try:
                    self._finish()
                except OSError as fault:
                    raise self._unwritable(fault) from fault

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = file = (self.directory / name).open("wb")
            self._held.callback(_close, file)
        return self._files[name]

    def _finish(self) -> None:
        """Flush all files, then move the run into place."""
        for file in self._files.values():
            file.flush()
        summary = {**self._counted.result(), **self.notes}
        jsonl.write_json(RunPaths(self.directory).summary, summary)
        old = archive_path(self.out) if self._replaces else None
        publish_folder(self.directory, self.out, old=old)

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.out} cannot be written: {error}; free some space or choose another --out, "
            "then run the command again; the sources are unchanged"
        )


def _close(file: BinaryIO) -> None:
    # All rows are flushed at this point; a full disk must not hide the original error.
    with contextlib.suppress(OSError):
        file.close()


def _check_target(named: Path, target: Path, *, fresh: bool) -> bool:
    """Return whether ``target`` contains a run to replace; RunError if it cannot be used."""
    paths = RunPaths(named)
    check_is_run(paths)
    if not paths.config.exists():
        return target.exists() and any(target.iterdir())
    if not fresh:
        raise RunError(
            f"{named} already contains a run; choose another --out, or pass --fresh to move it "
            f"to {named}.old-1 and start over"
        )
    run_config.check_kind(paths.config, TRAJECTORIES)
    return True


def _write_config(
    directory: Path,
    by: str,
    sources: Sequence[str | Path],
    documents: Sequence[Mapping[str, Any]],
    options: Mapping[str, object],
) -> None:
    origins = [
        {
            "path": str(source),
            "data_digest": document.get("data_digest"),
            **({"traces": traces} if (traces := run_config.traces_of(document)) else {}),
            **{k: v for k, v in document["data_config"].items() if k == "derived"},
        }
        for source, document in zip(sources, documents, strict=True)
    ]
    first, *further = (document["data_config"] for document in documents)
    shared = {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in further)
    }
    data = jsonl.plain_object({**shared, "derived": {"by": by, "sources": origins}})
    provenance = {"config": jsonl.plain_object(options), "software": software()}
    config = RunPaths(directory).config
    run_config.open_config(config, TRAJECTORIES, provenance, data, lambda: False)
