"""Jobs of any kind: every key gets one durable row, and a key that is taken back gets none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from tessy.core.errors import RunError
from tessy.runtime.admission import Slots
from tessy.runtime.runner import JobList, JobResult, Revoke, run_jobs
from tessy.runtime.stop import Stop
from tessy.storage import jsonl
from tessy.storage.run_config import RowKind
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import iter_failed_rows, iter_rows, read_config
from tests.support.run_data import read_run


class Square(BaseModel):
    """A toy kind of rows."""

    number: int
    square: int

    @property
    def key(self) -> int:
        return self.number


class FailedSquare(BaseModel):
    number: int
    reason: str = "odd"
    detail: str = "is odd"
    attempts: int = 1

    @property
    def key(self) -> int:
        return self.number


def key_of(path: Path, line: jsonl.Line) -> int:
    return int(jsonl.row(path, line)["number"])


SQUARES = RowKind(
    name="squares",
    row=Square,
    failure=FailedSquare,
    key_of=key_of,
    directory="directory of squares",
    made_by="this test makes one",
)


@dataclass(frozen=True)
class Job:
    key: int


def jobs(numbers: Iterable[int]) -> list[Job]:
    return [Job(number) for number in numbers]


def start(directory: Path) -> Run[int]:
    return Run.open(directory, SQUARES, config={}, data_config={"power": 2})


async def square(job: Job) -> JobResult:
    await asyncio.sleep(0)
    if job.key % 2:
        return JobResult(failure=FailedSquare(number=job.key))
    return JobResult(row=Square(number=job.key, square=job.key**2), tokens=1)


async def test_another_kind_of_rows_is_run_and_resumed(tmp_path: Path):
    written: list[int] = []
    with start(tmp_path / "run") as run:
        await run_jobs(
            JobList(jobs(range(5))),
            square,
            sink=run,
            admission=Slots(2),
            stop=Stop(),
            written=lambda job, result: written.append(job.key),
        )
    assert sorted(written) == [0, 1, 2, 3, 4]
    assert {row.number: row.square for row in iter_rows(tmp_path / "run", SQUARES)} == {
        0: 0,
        2: 4,
        4: 16,
    }
    assert [row.number for row in iter_failed_rows(tmp_path / "run", SQUARES)] == [1, 3]
    with start(tmp_path / "run") as run:
        assert run.done == {0, 2, 4}
        assert set(run.failed) == {1, 3}


async def test_kinds_of_rows_are_kept_apart(tmp_path: Path):
    start(tmp_path / "run").close()
    assert read_config(tmp_path / "run", SQUARES)["rows"] == "squares"
    with pytest.raises(RunError, match=r"holds squares, not trajectories; `tessy synthesize`"):
        read_run(tmp_path / "run")
    with pytest.raises(
        RunError, match=r"there is no folder .*other; check .*: this test makes one"
    ):
        read_config(tmp_path / "other", SQUARES)


class Leased:
    """A source that takes one key back while it is in work."""

    def __init__(self, numbers: Iterable[int], key: int) -> None:
        self._numbers, self._key = numbers, key
        self.started = asyncio.Event()

    async def jobs(self, revoke: Revoke) -> AsyncGenerator[Job, None]:
        for job in jobs(self._numbers):
            yield job
        await self.started.wait()
        revoke("unknown")
        revoke(self._key)
        revoke(self._key)


async def test_a_key_that_is_taken_back_gets_no_row(tmp_path: Path):
    source = Leased(range(0, 10, 2), key=4)
    ended: list[str] = []

    async def work(job: Job) -> JobResult:
        if job.key == 4:
            source.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
        return await square(job)

    slots = Slots(3)
    with start(tmp_path / "run") as run:
        await run_jobs(source, work, sink=run, admission=slots, stop=Stop())
        assert run.done == {0, 2, 6, 8}
        assert not run.failed
    assert ended == ["cancelled"]
    assert all(slots.try_admit(None) for _ in range(3))  # its place is free again


async def test_a_key_is_free_again_after_it_was_taken_back(tmp_path: Path):
    """The same process may get the lease back later."""
    started = asyncio.Event()

    class Returned:
        async def jobs(self, revoke: Revoke) -> AsyncGenerator[Job, None]:
            yield Job(2)
            await started.wait()
            revoke(2)
            for _ in range(5):
                await asyncio.sleep(0)
            yield Job(2)

    async def work(job: Job) -> JobResult:
        if not started.is_set():
            started.set()
            await asyncio.Event().wait()
        return await square(job)

    with start(tmp_path / "run") as run:
        await run_jobs(Returned(), work, sink=run, admission=Slots(3), stop=Stop())
        assert run.done == {2}


async def test_cancelling_the_run_is_no_revocation(tmp_path: Path):
    async def work(job: Job) -> JobResult:
        await asyncio.Event().wait()
        raise AssertionError

    with start(tmp_path / "run") as run:
        running = asyncio.create_task(
            run_jobs(JobList(jobs([2])), work, sink=run, admission=Slots(1), stop=Stop())
        )
        for _ in range(5):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not run.done


async def test_a_result_is_finished_without_the_place_of_its_job(tmp_path: Path):
    started: list[int] = []
    all_started = asyncio.Event()

    async def work(job: Job) -> JobResult:
        started.append(job.key)
        if len(started) == 4:
            all_started.set()
        return await square(job)

    async def finish(result: JobResult) -> JobResult:
        await all_started.wait()
        assert isinstance(result.row, Square)
        return JobResult(row=Square(number=result.row.number, square=0), tokens=1)

    slots = Slots(1)
    with start(tmp_path / "run") as run:
        await run_jobs(
            JobList(jobs(range(0, 8, 2))),
            work,
            sink=run,
            admission=slots,
            stop=Stop(),
            finish=finish,
        )
        assert run.done == {0, 2, 4, 6}
    assert {row.square for row in iter_rows(tmp_path / "run", SQUARES)} == {0}
    assert slots.try_admit(None)
    assert not slots.try_admit(None)  # each place was freed once


async def test_a_job_that_drains_while_it_is_finished_stays_in_flight(tmp_path: Path):
    stop = Stop()

    async def finish(result: JobResult) -> JobResult:
        stop.request()
        stop.check()
        return result

    with start(tmp_path / "run") as run:
        await run_jobs(
            JobList(jobs([2, 4])),
            square,
            sink=run,
            admission=Slots(1),
            stop=stop,
            finish=finish,
        )
        assert not run.done
        assert not run.failed
