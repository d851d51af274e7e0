"""Jobs with keys: from a source, through their work, to a durable row for each.

Neither the kind of rows nor what makes them is known here. A source may take a job back while it is
in work, as a cluster does when another process has taken it over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tessy.runtime.admission import Admission
from tessy.runtime.runner import Stop, run_all
from tessy.storage.run_dir import FailedRow, KeyedRow

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

    def jobs(self, revoke: Revoke) -> AsyncIterator[JobT_co]:
        """Yield jobs, the next one when it can start.

        Args:
            revoke: The source calls it to take a job back.
        """
        ...


class JobList(Generic[JobT]):
    """A source of given jobs, which takes none back."""

    def __init__(self, jobs: Iterable[JobT]) -> None:
        self._jobs = jobs

    async def jobs(self, revoke: Revoke) -> AsyncIterator[JobT]:
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
class Outcome:
    """What became of a job: exactly one of ``row`` and ``failure`` is set.

    Attributes:
        row: The finished row.
        failure: The row of a job that could not be finished.
        tokens: Generated tokens, for admission; None if not representative.
    """

    row: KeyedRow[Any] | None = None
    failure: FailedRow[Any] | None = None
    tokens: int | None = None


async def run_jobs(
    source: JobSource[JobT],
    work: Callable[[JobT], Awaitable[Outcome]],
    *,
    sink: RowSink,
    admission: Admission[JobT],
    stop: Stop,
    written: Callable[[JobT, Outcome], None] = lambda job, outcome: None,
) -> None:
    """Run ``work`` for every job of ``source``, and write the rows into ``sink``.

    A job that is taken back is cancelled and gets no row, unless its row is being written already.

    Args:
        source: The jobs.
        work: Makes the row of a job; exceptions are those of :func:`~.runner.run_all`.
        sink: Receives the rows.
        admission: Decides when the next job starts.
        stop: Ends the run early.
        written: Called when the row of a job is durable.

    Raises:
        StorageError: A row could not be written.
        Exception: As :func:`~.runner.run_all`.
    """
    working: dict[Hashable, asyncio.Task[Any]] = {}
    revoked: set[Hashable] = set()

    def revoke(key: Hashable) -> None:
        task = working.get(key)
        if task is not None and key not in revoked:
            revoked.add(key)
            task.cancel()

    async def make(job: JobT) -> int | None:
        task = asyncio.current_task()
        assert task is not None  # run_all starts one for each job
        working[job.key] = task
        try:
            outcome = await work(job)
        except asyncio.CancelledError:
            if job.key not in revoked or task.uncancel() > 0:  # cancelled from outside, too
                raise
            return None
        finally:
            del working[job.key]
            revoked.discard(job.key)
        if outcome.row is not None:
            await sink.append(outcome.row)
        else:
            await sink.append_failure(outcome.failure)
        written(job, outcome)
        return outcome.tokens

    await run_all(source.jobs(revoke), make, admission=admission, stop=stop)
