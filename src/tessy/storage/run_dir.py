"""Run directories as their owner writes them: lock, durable rows, resume."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tessy.core.errors import RunError
from tessy.storage import jsonl, run_config
from tessy.storage.append_log import AppendFile
from tessy.storage.atomic import archive, make_directory
from tessy.storage.group_writer import Closeable
from tessy.storage.lock import FileLock
from tessy.storage.run_config import KeyT, RowKind
from tessy.storage.run_paths import RunPaths


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """The last failure of a key."""

    reason: str
    detail: str
    attempts: int


KeyT_co = TypeVar("KeyT_co", bound=Hashable, covariant=True)


class KeyedRow(Protocol[KeyT_co]):
    """A row with a key."""

    @property
    def key(self) -> KeyT_co:
        """Key of the row, unique in its directory."""

    def model_dump(self) -> dict[str, Any]:
        """Return the content of the row."""


class FailedRow(KeyedRow[KeyT_co], Protocol):
    """A row that records a failure."""

    @property
    def reason(self) -> str:
        """Identifier of the cause."""

    @property
    def detail(self) -> str:
        """The cause in one sentence, with values."""

    @property
    def attempts(self) -> int:
        """Number of attempts."""


@dataclass(eq=False)
class Run(Closeable, Generic[KeyT]):
    """A run directory locked by this process: a context manager returned by :meth:`open`."""

    paths: RunPaths
    document: dict[str, Any]  # content of config.json
    done: set[KeyT]  # keys with a durable row
    failed: dict[KeyT, FailureSummary]  # failures of keys without a row
    _kind: RowKind[KeyT, Any, Any]
    _rows: AppendFile
    _failures: AppendFile
    _resources: ExitStack

    @classmethod
    def open(
        cls,
        directory: str | Path,
        kind: RowKind[KeyT, Any, Any],
        *,
        config: Mapping[str, object],
        data_config: Mapping[str, object],
        known: Collection[str] | None = None,
        software: Mapping[str, str] | None = None,
        fresh: bool = False,
        seen: Callable[[KeyT, jsonl.Line], None] = lambda key, line: None,
    ) -> Run[KeyT]:
        """Start a run in ``directory``, or resume the run there.

        config.json records ``config`` (all options of the command), the ``software`` versions, and
        ``data_config``: the options that decide the content of rows, as flat dotted keys. ``known``
        lists all keys of ``data_config`` in this version; a run with other keys is rejected.
        ``fresh`` moves an existing run to ``<directory>.old-<n>``. ``seen`` is called with every
        existing row.

        Raises:
            RunError: The directory is locked by another process, was created with another
                ``data_config`` (names each differing key), contains other files than a run, or
                cannot be written.
            InputError: An existing row cannot be read.
        """
        paths = RunPaths(directory, kind.name)
        provenance = jsonl.plain_object({"config": config, "software": software or {}})
        try:
            with ExitStack() as stack:
                check_is_run(paths)
                home = paths.directory.resolve()  # of a symbolic link, the target is moved
                make_directory(home)
                if fresh and paths.config.exists():
                    run_config.check_kind(paths.config, kind)
                    with FileLock(paths.lock):
                        archive(home)
                    make_directory(home)
                stack.enter_context(FileLock(paths.lock))
                data = jsonl.plain_object(data_config)
                document = run_config.open_config(
                    paths.config, kind, provenance, data, paths.has_started, known
                )
                rows = stack.enter_context(closing(AppendFile(paths.rows)))
                failures = stack.enter_context(closing(AppendFile(paths.failures)))

                def key_of(path: Path, line: jsonl.Line) -> KeyT:
                    key = kind.key_of(path, line)
                    seen(key, line)
                    return key

                done = set(jsonl.last_rows(paths.row_files(), key_of))
                failed = _failed(paths.failure_files(), done, key_of)
                return cls(paths, document, done, failed, kind, rows, failures, stack.pop_all())
        except OSError as error:
            raise _unusable(paths.directory, error) from error

    @classmethod
    def check(
        cls,
        directory: str | Path,
        kind: RowKind[KeyT, Any, Any],
        *,
        data_config: Mapping[str, object],
        known: Collection[str] | None = None,
        later: Collection[str] = (),
        fresh: bool = False,
    ) -> dict[str, Any]:
        """Raise as :meth:`open` before any work; writes nothing.

        Returns the recorded ``data_config`` of a run that will be resumed, else an empty one.
        ``later`` are keys of it that are not known yet and not compared.
        """
        paths = RunPaths(directory, kind.name)
        try:
            check_is_run(paths)
            _check_writable(paths.directory.resolve())
            if not paths.config.exists():
                return {}
            with FileLock(paths.lock):
                if fresh:
                    run_config.check_kind(paths.config, kind)
                    return {}
                document = run_config.read(paths.config, kind)
                recorded: dict[str, Any] = document["data_config"]
                if not paths.has_started() and "derived" not in recorded:
                    return {}
                data = jsonl.plain_object(data_config)
                run_config.check_same(paths.directory, document, data, kind, known, later)
                return recorded
        except OSError as error:
            raise _unusable(paths.directory, error) from error

    def check_same(self, data_config: Mapping[str, object]) -> None:
        """Raise RunError if the run was created with other values of these options."""
        data = jsonl.plain_object(data_config)
        run_config.check_same(self.paths.directory, self.document, data, self._kind)

    async def append(self, row: KeyedRow[KeyT]) -> None:
        """Append a finished row and wait until it is durable.

        If the caller is cancelled or killed, the row may be durable while the journal still has an
        entry for it. On resume, journal entries of finished keys must be deleted.
        """
        if row.key in self.done:
            raise ValueError(f"{row.key} already has a row")
        await self._rows.append(jsonl.dump_line(row.model_dump()))
        self.done.add(row.key)
        self.failed.pop(row.key, None)

    async def replace(self, row: KeyedRow[KeyT]) -> None:
        """Append a row that replaces the earlier one of its key; returns when it is durable."""
        if row.key not in self.done:
            raise ValueError(f"{row.key} has no row yet")
        await self._rows.append(jsonl.dump_line(row.model_dump()))

    async def append_failure(self, row: FailedRow[KeyT]) -> None:
        """Append a failure and wait until it is durable."""
        await self._failures.append(jsonl.dump_line(row.model_dump()))
        if row.key not in self.done:
            self.failed[row.key] = FailureSummary(row.reason, row.detail, row.attempts)

    def first_row(self) -> dict[str, Any] | None:
        """Return the first row as written; None without rows."""
        for path in self.paths.row_files():
            for line in jsonl.read_lines(path):
                return jsonl.row(path, line)
        return None

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Replace summary.json."""
        jsonl.write_json(self.paths.summary, summary)

    def close(self) -> None:
        """Write all pending rows and unlock the directory. Idempotent."""
        self._resources.close()


def _unusable(directory: Path, error: OSError) -> RunError:
    return RunError(
        f"{directory} cannot be used for a run: {error}; fix this or choose another --out"
    )


def _check_writable(directory: Path) -> None:
    """Raise OSError if ``directory``, or the parent that would hold it, is read-only."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "it is read-only", str(existing))


def check_is_run(paths: RunPaths) -> None:
    """Raise RunError if the directory exists and has other content than a run."""
    directory = paths.directory
    if not directory.exists() or paths.config.exists():
        return
    if not directory.is_dir():
        raise RunError(f"{directory} is a file; name a directory for the run with --out")
    # Files left by a process that was killed during its start.
    own = {paths.lock.name, paths.log.name, paths.config.name + ".tmp"}
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in own)
    if foreign:
        raise RunError(
            f"{directory} contains {foreign[0]!r} but no config.json, so it is not a run; choose a "
            "new or empty directory with --out"
        )


def _failed(
    files: list[Path], done: set[KeyT], key_of: jsonl.KeyOf[KeyT]
) -> dict[KeyT, FailureSummary]:
    failed = {}
    for path in files:
        for line in jsonl.read_lines(path):
            key = key_of(path, line)
            if key not in done:
                row = jsonl.row(path, line)
                attempts = row.get("attempts")
                failed[key] = FailureSummary(
                    reason=str(row.get("reason")),
                    detail=str(row.get("detail")),
                    attempts=attempts if isinstance(attempts, int) else 1,
                )
    return failed
