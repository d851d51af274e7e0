"""Jobs of any kind: every key gets one durable row."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from tessy.core.errors import RunError
from tessy.runtime.admission import Slots
from tessy.runtime.runner import JobResult, run_jobs
from tessy.runtime.stop import Stop
from tessy.storage import jsonl
from tessy.storage.row_kinds import RowKind
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import iter_failed_rows, iter_rows, read_config, read_run


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
            jobs(range(5)),
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
    with pytest.raises(RunError, match=r"is not a directory of squares: .*: this test makes one"):
        read_config(tmp_path / "other", SQUARES)


async def test_a_cancelled_run_writes_no_row(tmp_path: Path):
    async def work(job: Job) -> JobResult:
        await asyncio.Event().wait()
        raise AssertionError

    with start(tmp_path / "run") as run:
        running = asyncio.create_task(
            run_jobs(jobs([2]), work, sink=run, admission=Slots(1), stop=Stop())
        )
        for _ in range(5):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not run.done
