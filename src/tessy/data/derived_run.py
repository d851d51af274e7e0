"""Runs derived from finished runs: the output of ``tessy mix`` and ``tessy filter``.

    with DerivedRun.create(out, by="mix", sources=[first, second], options={"seed": 0}) as run:
        for line, row in source_rows(first):
            run.add(row, line)
        run.notes["mix"] = {"first": 1200}

The new directory is a complete run. It is built beside ``out`` as ``<out>.partial-<random>`` and
moved into place when the block succeeds. On an exception it is removed, and the previous content of
``out`` stays unchanged. (A killed process leaves the partial directory behind; it can be deleted.)
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
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
from tessy.storage.run_dir import not_a_run
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import TRAJECTORIES, read_config

_ABSENT = object()


class SourceRow(NamedTuple):
    """A row of a run: its line in the file, including the newline, and the parsed row."""

    line: bytes
    row: Trajectory


def source_rows(directory: str | Path) -> Iterator[SourceRow]:
    """Yield the rows of a run in the order of :func:`iter_trajectories`, with their lines.

    Raises:
        RunError: ``directory`` is not a run.
        InputError: A line is invalid; names file, line and field.
    """
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
    """Return :func:`source_rows`; on a terminal, show a progress bar.

    Args:
        directory: The run.
        label: Label of the bar, such as ``Filtering``.
        console: Console of the bar; standard error by default.

    Raises:
        RunError: ``directory`` is not a run.
    """
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
    """A derived run that is being written.

    Attributes:
        out: Final directory.
        directory: Temporary directory.
        notes: Additional entries of summary.json, by name; set by the command.
        summary: Content of summary.json; set when the block succeeds.
    """

    def __init__(
        self, out: Path, directory: Path, *, replaces: bool, held: ExitStack | None = None
    ) -> None:
        """Use :meth:`create`."""
        self.out = out
        self.directory = directory
        self.notes: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self._rows = RunPaths(directory).rows.name
        self._replaces = replaces
        self._held = held or ExitStack()
        self._files: dict[str, BinaryIO] = {}
        self._keys: set[Key] = set()
        self._counted = Summary()

    @classmethod
    def create(
        cls,
        out: str | Path,
        *,
        by: str,
        sources: Sequence[str | Path],
        options: Mapping[str, object],
        fresh: bool = False,
    ) -> Self:
        """Start a run from the rows of ``sources``.

        Its data_config contains the entries that all sources share, and ``derived``: the command
        and the sources. No other command writes that key, so none resumes the run by mistake.

        Args:
            out: Directory of the run; must not exist or must be empty, unless ``fresh``.
            by: Name of the command.
            sources: Run directories.
            options: Options of the command, for the record.
            fresh: Move a run at ``out`` to ``<out>.old-<n>`` when the new one is complete.

        Raises:
            RunError: A source is not a run, or is ``out`` or inside it; ``out`` is not empty, is
                not a run, or is in use; the directory cannot be created.
        """
        documents = [read_config(source) for source in sources]
        target = Path(out).resolve()  # replaces the target of a link, not the link
        for source in sources:
            if Path(source).resolve().is_relative_to(target):
                raise RunError(
                    f"--out {out} contains the source {source}; choose another directory"
                )
        try:
            with ExitStack() as stack:
                replaces = _check_target(Path(out), target, fresh=fresh)
                if replaces:
                    stack.enter_context(FileLock(RunPaths(target).lock))
                partial = beside(target, "partial")
                stack.callback(shutil.rmtree, partial, ignore_errors=True)
                make_directory(partial.parent)
                partial.mkdir()
                _write_config(partial, by, sources, documents, options)
                run = cls(target, partial, replaces=replaces, held=stack.pop_all())
                run._file(run._rows)  # exists even if no row is added
                return run
        except OSError as error:
            raise RunError(
                f"{out} cannot be created: {error}; fix it or choose another --out"
            ) from error

    def add(self, row: Trajectory, line: bytes | None = None) -> int:
        """Add a row.

        Args:
            row: The row.
            line: Line of the row in its source, copied byte for byte; None: serialize the row.

        Returns:
            Byte offset of the row, for :meth:`read`.

        Raises:
            StorageError: The row could not be written.
            ValueError: The run already has a row with this key.
        """
        if row.key in self._keys:
            raise ValueError(f"the run already has a row with the key {row.key}")
        self._keys.add(row.key)
        self._counted.add(row)
        offset = self._file(self._rows).tell()
        self.write(self._rows, line if line is not None else jsonl.dump_line(row.model_dump()))
        return offset

    def read(self, offset: int) -> Trajectory:
        """Return an added row, read from disk.

        Raises:
            StorageError: Buffered rows could not be written.
        """
        try:
            self._file(self._rows).flush()
            with (self.directory / self._rows).open("rb") as file:
                file.seek(offset)
                return Trajectory.model_validate(jsonl.loads(file.readline()))
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, name: str, line: bytes) -> None:
        """Append ``line`` to the file ``name`` of the run, which is created if missing.

        Raises:
            StorageError: The line could not be written.
        """
        try:
            self._file(name).write(line)
        except OSError as error:
            raise self._unwritable(error) from error

    def __len__(self) -> int:
        """Return the number of rows added so far."""
        return len(self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            if kind is None:
                try:
                    self._finish()
                except OSError as fault:
                    raise self._unwritable(fault) from fault

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            file = (self.directory / name).open("wb")
            self._files[name] = file
            self._held.callback(_close, file)
        return self._files[name]

    def _finish(self) -> None:
        """Flush all files, then move the run into place."""
        for file in self._files.values():
            file.flush()
        self.summary = {**self._counted.result(), **self.notes}
        paths = RunPaths(self.directory)
        jsonl.write_json(paths.summary, self.summary)
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
    """Return whether ``target`` contains a run to replace.

    Raises:
        RunError: ``target`` cannot be used.
    """
    if not target.exists():
        return False
    if not target.is_dir():
        raise RunError(f"{named} is a file; name a directory for the run with --out")
    first = min((path.name for path in target.iterdir()), default=None)
    if first is None:
        return False
    paths = RunPaths(target)
    if not paths.config.exists():
        raise not_a_run(named, first)
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
            **{k: v for k, v in document["data_config"].items() if k == "derived"},
        }
        for source, document in zip(sources, documents, strict=True)
    ]
    data = _shared_entries([document["data_config"] for document in documents])
    data["derived"] = {"by": by, "sources": origins}
    paths = RunPaths(directory)
    document = {"config": jsonl.plain_object(options), "software": software()}
    run_config.open_config(
        paths.config, TRAJECTORIES, document, jsonl.plain_object(data), lambda: False
    )


def _shared_entries(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries that are equal in all of ``configs``."""
    first, *others = configs
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name, _ABSENT) == value for other in others)
    }
