"""A run directory: one owner, durable rows, resume; and how its consumers read it.

NAME/
  run.lock             host and pid of the process that owns it
  config.json          how it was made; resume compares the data-relevant part
  trajectories.jsonl   finished samples, one row a line
  failures.jsonl       a log of samples that could not be finished
  parts/*.jsonl        the same from many machines (parts/*.failures.jsonl for failures)
  journal.sqlite       samples in flight
  summary.json, report.html, run.log
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from tessy.core.errors import RunError
from tessy.core.records import Failure, Key, Trajectory
from tessy.storage import jsonl, run_config
from tessy.storage.append_log import AppendFile, Closeable
from tessy.storage.atomic import make_directory, set_aside
from tessy.storage.lock import FileLock


class RowPaths:
    """Where the files of a directory of rows lie.

    Attributes:
        kind: What its rows are, and the name of their file.
        rows: The file with the rows.
    """

    kind: ClassVar[str]

    def __init__(self, directory: str | Path) -> None:
        """Name the files in ``directory``; touches nothing."""
        self.directory = Path(directory)
        self.lock = self.directory / "run.lock"
        self.config = self.directory / "config.json"
        self.rows = self.directory / f"{self.kind}.jsonl"
        self.failures = self.directory / "failures.jsonl"
        self.parts = self.directory / "parts"
        self.summary = self.directory / "summary.json"
        self.log = self.directory / "run.log"

    def begun(self) -> bool:
        """Return whether rows were ever in the making here."""
        return any(path.stat().st_size for path in (*self.row_files(), *self.failure_files()))

    def row_files(self) -> list[Path]:
        """Return files with rows that exist; of two rows with one key the later one counts."""
        parts = [part for part in self._parts() if not part.name.endswith(".failures.jsonl")]
        return [path for path in (self.rows, *parts) if path.exists()]

    def failure_files(self) -> list[Path]:
        """Return files with failures that exist, in the same order."""
        parts = [part for part in self._parts() if part.name.endswith(".failures.jsonl")]
        return [path for path in (self.failures, *parts) if path.exists()]

    def _parts(self) -> list[Path]:
        return sorted(self.parts.glob("*.jsonl"))


class RunPaths(RowPaths):
    """Where the files of a run lie."""

    kind = "trajectories"

    def __init__(self, directory: str | Path) -> None:
        """Name the files of the run in ``directory``; touches nothing."""
        super().__init__(directory)
        self.trajectories = self.rows
        self.journal = self.directory / "journal.sqlite"
        self.report = self.directory / "report.html"

    def begun(self) -> bool:
        """Return whether samples were ever in flight here."""
        return self.journal.exists() or super().begun()


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


@dataclass(frozen=True, slots=True)
class RunData:
    """A run as its consumers see it.

    Attributes:
        config: The content of config.json.
        trajectories: The last one of each key, in file order.
        failures: The last one of each key that has no trajectory.
    """

    config: dict[str, Any]
    trajectories: tuple[Trajectory, ...]
    failures: tuple[Failure, ...]


def read_config(directory: str | Path) -> dict[str, Any]:
    """Return the content of config.json of the run in ``directory``.

    Raises:
        RunError: There is no run, or this version cannot read it.
    """
    return run_config.read(RunPaths(directory).config, "trajectories")


def iter_trajectories(directory: str | Path) -> Iterator[Trajectory]:
    """Yield the last trajectory of each key, one at a time; memory holds the keys only.

    The run may be in the making: rows that come later, and a last line half written, are left out.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    read_config(directory)
    files = RunPaths(directory).row_files()
    places = jsonl.last_rows(files, jsonl.row_key)
    yield from jsonl.rows_at(Trajectory, files, places, jsonl.row_key)


def iter_failures(directory: str | Path) -> Iterator[Failure]:
    """The last failure of each key that has no trajectory, read as :func:`iter_trajectories` does.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    read_config(directory)
    paths = RunPaths(directory)
    # Failures first: a key that succeeds between the two readings shows as a success.
    failed = jsonl.last_rows(paths.failure_files(), jsonl.row_key)
    done = jsonl.last_rows(paths.row_files(), jsonl.row_key)
    places = {key: place for key, place in failed.items() if key not in done}
    yield from jsonl.rows_at(Failure, paths.failure_files(), places, jsonl.row_key)


def read_run(directory: str | Path) -> RunData:
    """Return everything a run has made, as :func:`iter_trajectories` reads it, in memory.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    config = read_config(directory)
    failures = tuple(iter_failures(directory))
    trajectories = tuple(iter_trajectories(directory))
    done = {row.key for row in trajectories}  # a row may have come after the failures were read
    return RunData(config, trajectories, tuple(row for row in failures if row.key not in done))
