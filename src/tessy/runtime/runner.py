"""Bounded concurrency for all commands: from jobs of any type to a durable row for each."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from tessy.runtime.admission import Admission
from tessy.runtime.stop import Draining, Stop
from tessy.storage.run_dir import FailedRow, KeyedRow

Job = TypeVar("Job")
# Allocations between two garbage collections; Python's default is 2,000 or fewer.
_YOUNG_OBJECTS = 10_000


class RowSink(Protocol):
    """Destination of rows: a :class:`~tessy.storage.run_dir.Run`."""

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


async def run_jobs(
    jobs: Iterable[Job],
    work: Callable[[Job], Awaitable[JobResult]],
    *,
    sink: RowSink,
    admission: Admission[Job],
    stop: Stop,
    written: Callable[[Job, JobResult], None] = lambda job, result: None,
) -> None:
    """Run ``work`` for every job as :func:`run_all` does, and write the rows into ``sink``.

    ``written`` is called when the row of a job is durable.

    Raises:
        StorageError: A row could not be written.
        Exception: As :func:`run_all`.
    """

    async def make(job: Job) -> int | None:
        result = await work(job)
        if result.row is not None:
            await sink.append(result.row)
        else:
            await sink.append_failure(result.failure)
        written(job, result)
        return result.tokens

    await run_all(jobs, make, admission=admission, stop=stop)


async def run_all(
    jobs: Iterable[Job],
    work: Callable[[Job], Awaitable[int | None]],
    *,
    admission: Admission[Job],
    stop: Stop,
) -> None:
    """Run ``work`` for every job, with the concurrency that ``admission`` allows.

    Args:
        jobs: Consumed lazily: the next job is taken when the previous one has started.
        work: Runs one job and returns the number of tokens it generated, for ``admission``. It
            must record failures of the job itself. :class:`Draining` leaves the job in flight; any
            other exception ends the run.
        admission: Decides when the next job starts; must admit a job if none is in flight.
        stop: Ends the run early; check ``stop.requested`` afterwards.

    Raises:
        Exception: The first exception of a job, after all other jobs were cancelled.
    """
    freed = asyncio.Event()

    async def do(job: Job) -> int | None:
        with contextlib.suppress(Draining):
            return await work(job)
        return None

    def ended(job: Job, task: asyncio.Task[int | None]) -> None:
        # A callback, because a task cancelled before its first step runs no code.
        failed = task.cancelled() or task.exception() is not None
        admission.finished(job, None if failed else task.result())
        freed.set()

    try:
        with _infrequent_gc():
            async with asyncio.TaskGroup() as tasks:
                for job in jobs:
                    # After a stop all jobs end soon, so waiting for one of them suffices.
                    while not stop.requested and not admission.try_admit(job):
                        freed.clear()
                        await freed.wait()
                    if stop.requested:
                        break
                    tasks.create_task(do(job)).add_done_callback(partial(ended, job))
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
