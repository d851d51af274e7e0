"""Run directories as their owner writes them: lock, durable rows, resume."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from tessy.core.errors import RunError
from tessy.core.records import Key, Trajectory
from tessy.storage import jsonl, run_config
from tessy.storage.append_log import AppendFile
from tessy.storage.atomic import make_directory, set_aside
from tessy.storage.group_writer import Closeable
from tessy.storage.lock import FileLock
from tessy.storage.run_paths import RowPaths, RunPaths


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """Why a key failed last, and after how many attempts."""

    reason: str
    detail: str
    attempts: int


KeyT = TypeVar("KeyT", bound=Hashable)
KeyT_co = TypeVar("KeyT_co", bound=Hashable, covariant=True)


class KeyedRow(Protocol[KeyT_co]):
    """A row that can be written."""

    @property
    def key(self) -> KeyT_co:
        """What identifies it in its directory."""
        ...

    def model_dump(self) -> dict[str, Any]:
        """Its content."""
        ...


class FailedRow(KeyedRow[KeyT_co], Protocol):
    """A row of a sample that failed."""

    @property
    def reason(self) -> str:
        """One word for why it failed."""
        ...

    @property
    def detail(self) -> str:
        """A sentence with the values that led to it."""
        ...

    @property
    def attempts(self) -> int:
        """Times it was tried."""
        ...


@dataclass(eq=False)
class RowDirectory(Closeable, Generic[KeyT]):
    """A directory of rows held by this process; made by :meth:`open`, used as a context manager.

    Attributes:
        paths: Its files.
        document: The content of config.json.
        done: Keys with a durable row.
        failed: Keys that failed and have no row.
    """

    paths: RowPaths
    document: dict[str, Any]
    done: set[KeyT]
    failed: dict[KeyT, FailureSummary]
    _rows: AppendFile
    _failures: AppendFile
    _held: ExitStack

    @staticmethod
    @abstractmethod
    def place(directory: str | Path) -> RowPaths:
        """Return the files of such a directory."""

    @staticmethod
    @abstractmethod
    def key_of(path: Path, line: jsonl.Line) -> KeyT:
        """Return the key of the row on ``line``."""

    @classmethod
    def open(
        cls,
        directory: str | Path,
        *,
        config: Mapping[str, object],
        data_config: Mapping[str, object],
        known: Collection[str] | None = None,
        software: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> Self:
        """Start a run in ``directory``, or resume the one that is there.

        Args:
            directory: Made if it is missing.
            config: Everything the command was given, for the record.
            data_config: What decides on the content of rows, as flat dotted keys.
            known: All keys that this version may write there; a run with another one is refused.
            software: Versions worth recording, by name.
            fresh: Set the run that is there aside as ``<directory>.old-<n>`` and start over.

        Raises:
            RunError: Another process holds it; it was made with another ``data_config`` (each
                differing key is named); it holds something else than a run; it cannot be written.
            InputError: A row that is there cannot be read.
        """
        paths = cls.place(directory)
        given = {"config": config, "software": software or {}}
        made_with = {name: jsonl.plain_object(value) for name, value in given.items()}
        try:
            with ExitStack() as stack:
                _check_ours(paths)
                home = paths.directory.resolve()  # a link stays, what it points to moves
                make_directory(home)
                if fresh and paths.config.exists():
                    run_config.refuse_other(paths.config, paths.kind)
                    with FileLock(paths.lock):
                        set_aside(home)
                    make_directory(home)
                stack.enter_context(FileLock(paths.lock))
                data = jsonl.plain_object(data_config)
                document = run_config.enter(
                    paths.config, paths.kind, made_with, data, paths.begun, known
                )
                rows = stack.enter_context(closing(AppendFile(paths.rows)))
                failures = stack.enter_context(closing(AppendFile(paths.failures)))
                done = set(jsonl.last_rows(paths.row_files(), cls.key_of))
                failed = _failed(paths.failure_files(), done, cls.key_of)
                return cls(paths, document, done, failed, rows, failures, stack.pop_all())
        except OSError as error:
            raise RunError(
                f"{paths.directory} cannot be used for a run: {error}; fix it or choose another "
                "--out"
            ) from error

    async def append(self, row: KeyedRow[KeyT]) -> None:
        """Append a finished row; return once it is durable.

        A caller that is cancelled, or killed, may leave a row that is durable and an entry in the
        journal: on resume, forget what the journal has of keys that are done.

        Raises:
            StorageError: It could not be written.
            ValueError: The key is done already.
        """
        if row.key in self.done:
            raise ValueError(f"{row.key} has a row already")
        await self._rows.append(jsonl.dump_line(row.model_dump()))
        self.done.add(row.key)
        self.failed.pop(row.key, None)

    async def append_failure(self, row: FailedRow[KeyT]) -> None:
        """Append what could not be finished; return once it is durable.

        Raises:
            StorageError: It could not be written.
        """
        await self._failures.append(jsonl.dump_line(row.model_dump()))
        if row.key not in self.done:
            self.failed[row.key] = FailureSummary(row.reason, row.detail, row.attempts)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Put ``summary`` in place of summary.json.

        Raises:
            StorageError: It could not be written; the old one is still there.
        """
        jsonl.write_json(self.paths.summary, summary)

    def close(self) -> None:
        """Write what waits and let go of the directory. May be called again.

        Raises:
            StorageError: A row could not be written.
        """
        self._held.close()


class Run(RowDirectory[Key]):
    """A run: trajectories and failures by problem id and sample index."""

    paths: RunPaths

    @staticmethod
    def place(directory: str | Path) -> RunPaths:
        """Return the files of a run."""
        return RunPaths(directory)

    @staticmethod
    def key_of(path: Path, line: jsonl.Line) -> Key:
        """Return the key of the row on ``line``."""
        return jsonl.row_key(path, line)

    async def append_trajectory(self, row: Trajectory) -> None:
        """Append a finished sample, as :meth:`append` does."""
        await self.append(row)


def _check_ours(paths: RowPaths) -> None:
    directory = paths.directory
    if not directory.exists() or paths.config.exists():
        return
    if not directory.is_dir():
        raise RunError(f"{directory} is a file; name a directory for the run with --out")
    # A process that died while it started leaves these.
    ours = {paths.lock.name, paths.log.name, paths.config.name + ".tmp"}
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in ours)
    if foreign:
        raise no_run(directory, foreign[0])


def no_run(directory: Path, entry: str) -> RunError:
    """Return the error for a directory that holds ``entry`` and no run."""
    return RunError(
        f"{directory} holds {entry!r} but no config.json, so it is no run; choose a new or empty "
        "directory with --out"
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
