"""New runs made out of finished ones: what ``tessy mix`` and ``tessy filter`` write.

    with DerivedRun.create(out, by="mix", sources=[first, second], options={"seed": 0}) as run:
        for line, row in source_rows(first):
            run.add(row, line)
        run.notes["mix"] = {"first": 1200}

The new directory is a run to every reader. It is built beside ``out``, as
``<out>.partial-<random>``, and moved into place when the block ends well; however else it ends,
nothing of it is left and what ``out`` held before is untouched. (A process that is killed leaves
the partial directory behind; it can be deleted.)
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
    """A row of a run: its line in the file, with the newline, and its content."""

    line: bytes
    row: Trajectory


def source_rows(directory: str | Path) -> Iterator[SourceRow]:
    """Yield the rows of a run as :func:`iter_trajectories` gives them, with their lines.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file, line and field.
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
def reading(
    directory: str | Path, what: str, console: Console | None = None
) -> Iterator[Iterator[SourceRow]]:
    """:func:`source_rows`; on a terminal, a bar shows how far they have been read.

    Args:
        directory: The run.
        what: Stands before the bar: ``Filtering``.
        console: Where the bar goes; standard error by default.

    Raises:
        RunError: There is no run in ``directory``.
    """
    console = console or SteadyConsole(stderr=True)
    rows = source_rows(directory)
    if not console.is_terminal:
        yield rows
        return
    size = sum(path.stat().st_size for path in RunPaths(directory).row_files())
    columns = (TextColumn(what), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=size)

        def advancing() -> Iterator[SourceRow]:
            for item in rows:
                yield item
                bar.advance(task, len(item.line))

        yield advancing()


class DerivedRun:
    """A run in the making that is made out of others.

    Attributes:
        out: Where it will be.
        directory: Where it is until then.
        notes: Further entries of summary.json, by name: set by the command.
        summary: The content of summary.json, once the block has ended well.
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
        """Start a run that takes its rows from ``sources``.

        Its data_config holds what those of all sources agree on, and ``derived``: who made it out
        of what. No other command has that key, so none resumes the run by mistake.

        Args:
            out: Where the run will be; must not exist or be empty, unless ``fresh``.
            by: The command that makes it.
            sources: Run directories.
            options: What the command was given, for the record.
            fresh: Set a run that is at ``out`` aside as ``<out>.old-<n>`` once this one is whole.

        Raises:
            RunError: A source is no run, or is ``out`` itself or in it; ``out`` is not empty, holds
                something else than a run, or is in use; the directory cannot be made.
        """
        documents = [read_config(source) for source in sources]
        target = Path(out).resolve()  # a link stays, what it points to is replaced
        for source in sources:
            if Path(source).resolve().is_relative_to(target):
                raise RunError(f"--out {out} holds the source {source}; choose another directory")
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
                run._file(run._rows)  # a run may turn out to have no row
                return run
        except OSError as error:
            raise RunError(
                f"{out} cannot be made: {error}; fix it or choose another --out"
            ) from error

    def add(self, row: Trajectory, line: bytes | None = None) -> int:
        """Add a row.

        Args:
            row: The row.
            line: The row as its source has it (:class:`SourceRow`), so that it stays the same to
                the byte; None: it is written anew.

        Returns:
            Where it begins, in bytes: what :meth:`read` takes.

        Raises:
            StorageError: It could not be written.
            ValueError: There is a row with this key already.
        """
        if row.key in self._keys:
            raise ValueError(f"{row.key} has a row already")
        self._keys.add(row.key)
        self._counted.add(row)
        offset = self._file(self._rows).tell()
        self.write(self._rows, line if line is not None else jsonl.dump_line(row.model_dump()))
        return offset

    def read(self, offset: int) -> Trajectory:
        """Return a row that was added, read again from the disk.

        Raises:
            StorageError: What is to come before it could not be written.
        """
        try:
            self._file(self._rows).flush()
            with (self.directory / self._rows).open("rb") as file:
                file.seek(offset)
                return Trajectory.model_validate(jsonl.loads(file.readline()))
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, name: str, line: bytes) -> None:
        """Append ``line`` to the file ``name`` of the run, made if it is missing.

        It is durable when the run is.

        Raises:
            StorageError: It could not be written.
        """
        try:
            self._file(name).write(line)
        except OSError as error:
            raise self._unwritable(error) from error

    def __len__(self) -> int:
        """Return rows added so far."""
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
        """Make everything durable, then put it in place."""
        for file in self._files.values():
            file.flush()
        self.summary = {**self._counted.result(), **self.notes}
        paths = RunPaths(self.directory)
        jsonl.write_json(paths.summary, self.summary)
        old = archive_path(self.out) if self._replaces else None
        publish_folder(self.directory, self.out, old=old)

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.out} cannot be made: {error}; free some space or choose another --out, and "
            "give the same command again: the sources are untouched"
        )


def _close(file: BinaryIO) -> None:
    # What matters was flushed by then; a full disk must not hide the original error.
    with contextlib.suppress(OSError):
        file.close()


def _check_target(named: Path, target: Path, *, fresh: bool) -> bool:
    """Return whether ``target`` holds a run that is to be replaced.

    Raises:
        RunError: It may not be used.
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
            f"{named} holds a run already; choose another --out, or pass --fresh to set it aside "
            f"as {named}.old-1 and start over"
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
    made_of = [
        {
            "path": str(source),
            "data_digest": document.get("data_digest"),
            **{k: v for k, v in document["data_config"].items() if k == "derived"},
        }
        for source, document in zip(sources, documents, strict=True)
    ]
    data = _agreed([document["data_config"] for document in documents])
    data["derived"] = {"by": by, "sources": made_of}
    paths = RunPaths(directory)
    made_with = {"config": jsonl.plain_object(options), "software": software()}
    run_config.open_config(
        paths.config, TRAJECTORIES, made_with, jsonl.plain_object(data), lambda: False
    )


def _agreed(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries that all of ``configs`` have."""
    first, *others = configs
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name, _ABSENT) == value for other in others)
    }
