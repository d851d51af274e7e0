"""Bounded concurrency for all commands: from a source of jobs to a durable row for each.

Independent of the kind of rows and of the work. Jobs start lazily; a source may revoke a job in
progress, for example when another process of a cluster has taken it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Hashable,
    Iterable,
)
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tessy.runtime.admission import Admission
from tessy.runtime.stop import Draining, Stop
from tessy.storage.run_dir import FailedRow, KeyedRow

Job = TypeVar("Job")
# Allocations between two garbage collections; Python's default is 2,000 or fewer.
_YOUNG_OBJECTS = 10_000

Revoke = Callable[[Hashable], None]
"""Called with the key of a job that must not get a row any more; other keys are ignored."""


class KeyedJob(Protocol):
    """A job that results in one row."""

    @property
    def key(self) -> Hashable:
        """Key of its row."""
        ...


JobT = TypeVar("JobT", bound=KeyedJob)
JobT_co = TypeVar("JobT_co", bound=KeyedJob, covariant=True)


class JobSource(Protocol[JobT_co]):
    """Where jobs come from."""

    def jobs(self, revoke: Revoke) -> AsyncGenerator[JobT_co, None]:
        """Yield jobs, the next one when it can start; call ``revoke`` to take one back."""
        ...


class JobList(Generic[JobT]):
    """A source of given jobs, which takes none back."""

    def __init__(self, jobs: Iterable[JobT]) -> None:
        self._jobs = jobs

    async def jobs(self, revoke: Revoke) -> AsyncGenerator[JobT, None]:
        """Yield them in order."""
        for job in self._jobs:
            yield job


class RowSink(Protocol):
    """Where rows go: a :class:`~tessy.storage.run_dir.Run`."""

    async def append(self, row: Any) -> None:  # noqa: ANN401  # of the sink's kind
        """Write a finished row; returns when it is durable."""
        ...

    async def append_failure(self, row: Any) -> None:  # noqa: ANN401  # of the sink's kind
        """Write a failure; returns when it is durable."""
        ...


@dataclass(frozen=True, slots=True)
class JobResult:
    """Result of a job: exactly one of ``row`` and ``failure`` is set.

    ``tokens`` is the number of generated tokens, for admission; None if not representative.
    """

    row: KeyedRow[Any] | None = None
    failure: FailedRow[Any] | None = None
    tokens: int | None = None


Release = Callable[[int | None], None]
"""Frees the admission slot of a job, given its generated tokens, before the job ends."""


async def _unchanged(result: JobResult) -> JobResult:
    return result


async def run_jobs(
    source: JobSource[JobT],
    work: Callable[[JobT], Awaitable[JobResult]],
    *,
    sink: RowSink,
    admission: Admission[JobT],
    stop: Stop,
    finish: Callable[[JobResult], Awaitable[JobResult]] = _unchanged,
    written: Callable[[JobT, JobResult], None] = lambda job, result: None,
) -> None:
    """Run ``work`` for every job of ``source``, and write the rows into ``sink``.

    A job that is taken back is cancelled and gets no row, unless its row is being written already.

    ``finish`` completes a result after its job has freed its admission slot.
    ``written`` is called when the row of a job is durable.

    Raises:
        StorageError: A row could not be written.
        Exception: As :func:`run_all`.
    """
    working: dict[Hashable, asyncio.Task[Any]] = {}
    revoked: set[Hashable] = set()

    def revoke(key: Hashable) -> None:
        task = working.get(key)
        if task is not None and key not in revoked:
            revoked.add(key)
            task.cancel()

    async def make(job: JobT, release: Release) -> int | None:
        task = asyncio.current_task()
        assert task is not None  # run_all starts one for each job
        working[job.key] = task
        try:
            result = await work(job)
            release(result.tokens)
            result = await finish(result)
        except asyncio.CancelledError:
            if job.key not in revoked or task.uncancel() > 0:  # cancelled from outside, too
                raise
            return None
        finally:
            del working[job.key]
            revoked.discard(job.key)
        if result.row is not None:
            await sink.append(result.row)
        else:
            await sink.append_failure(result.failure)
        written(job, result)
        return result.tokens

    await _run_all(source.jobs(revoke), make, admission=admission, stop=stop)


async def run_all(
    jobs: AsyncGenerator[Job, None],
    work: Callable[[Job], Awaitable[int | None]],
    *,
    admission: Admission[Job],
    stop: Stop,
) -> None:
    """Run ``work`` for every job, with the concurrency that ``admission`` allows.

    Args:
        jobs: Consumed lazily: the next job is taken when the previous one has started. A source
            that waits for jobs must end when ``stop`` is requested.
        work: Runs one job and returns the number of tokens it generated, for ``admission``. It
            must record failures of the job itself. :class:`Draining` leaves the job in flight; any
            other exception ends the run.
        admission: Decides when the next job starts; must admit a job if none is in flight.
        stop: Ends the run early; check ``stop.requested`` afterwards.

    Raises:
        Exception: The first exception of a job, after all other jobs were cancelled.
    """

    async def run(job: Job, release: Release) -> int | None:
        return await work(job)

    await _run_all(jobs, run, admission=admission, stop=stop)


async def _run_all(
    jobs: AsyncGenerator[Job, None],
    work: Callable[[Job, Release], Awaitable[int | None]],
    *,
    admission: Admission[Job],
    stop: Stop,
) -> None:
    freed = asyncio.Event()

    async def do(job: Job, release: Release) -> int | None:
        with contextlib.suppress(Draining):
            return await work(job, release)
        return None

    def start(job: Job, tasks: asyncio.TaskGroup) -> None:
        held = True

        def release(tokens: int | None) -> None:
            nonlocal held
            if held:
                held = False
                admission.finished(job, tokens)
            freed.set()

        def ended(task: asyncio.Task[int | None]) -> None:
            # A callback, because a task cancelled before its first step runs no code.
            failed = task.cancelled() or task.exception() is not None
            release(None if failed else task.result())

        tasks.create_task(do(job, release)).add_done_callback(ended)

    try:
        with _infrequent_gc():
            async with contextlib.aclosing(jobs), asyncio.TaskGroup() as tasks:
                async for job in jobs:
                    # After a stop all jobs end soon, so waiting for one of them suffices.
                    while not stop.requested and not admission.try_admit(job):
                        freed.clear()
                        await freed.wait()
                    if stop.requested:
                        break
                    start(job, tasks)
                    # Yield to running jobs between starts.
                    await asyncio.sleep(0)
    except BaseExceptionGroup as group:
        first = _first(group)
        raise first from first.__cause__


@contextlib.contextmanager
def _infrequent_gc() -> Generator[None, None, None]:
    """Exempt existing objects and collect less often: full collections block the event loop."""
    before = gc.get_threshold()
    if gc.get_freeze_count() or not 0 < before[0] < _YOUNG_OBJECTS:
        yield  # already set by another run or by the caller
        return
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
