"""Worker processes: order, resume, failures, Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tessy.lab.experiment.design import LabJob
from tessy.lab.experiment.outcomes import JobError, JobInterrupted, check_status
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.workers import Interruption, run_all
from tessy.runtime.stop import interruptible

JOBS = [LabJob("data", 0, name) for name in ("a", "b", "c", "d")]
NEEDS = {JOBS[2].id: [JOBS[0].id, JOBS[1].id], JOBS[3].id: [JOBS[2].id]}


def work(folder: Path, job: LabJob) -> dict[str, object]:
    if (folder / f"fail-{job.name}").exists():
        (folder / f"failed-{job.name}").touch()
        raise ValueError("as asked")
    if (folder / f"stop-{job.name}").exists():
        raise JobInterrupted(job.id)
    if (folder / f"signal-{job.name}").exists():
        asyncio.run(interrupted_command(job))
    if (folder / f"wait-{job.name}").exists():
        (folder / f"began-{job.name}").touch()
        while (folder / f"wait-{job.name}").exists():
            time.sleep(0.01)
    with (folder / "done.txt").open("a") as file:
        file.write(job.name)
    return {"process": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}


async def interrupted_command(job: LabJob) -> None:
    """Get a SIGINT inside a command, which drains on it."""
    async with interruptible() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
        if stop.requested:
            raise JobInterrupted(job.id)


def until_there_are(*paths: Path, seconds: float = 60.0) -> bool:
    """Wait for files; return whether they came in time."""
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def run(folder: Path, **options: Any) -> bool:
    paths = LabPaths(folder / "out")
    paths.jobs.mkdir(parents=True, exist_ok=True)
    do = options.pop("do", partial(work, folder))
    values = {
        "workers": 1,
        "on_result": lambda job, result: None,
        "leave_out": lambda job: False,
        "interruption": Interruption(lambda: None),
        **options,
    }
    return run_all(JOBS, lambda job: NEEDS.get(job.id, []), do, paths, **values)


def results(folder: Path) -> dict[str, Any]:
    files = (folder / "out" / "jobs").glob("*.json")
    return {path.stem: json.loads(path.read_bytes()) for path in files}


def test_jobs_run_in_order_in_one_process_with_one_thread(tmp_path):
    seen: list[str] = []
    before = os.environ.get("OMP_NUM_THREADS")
    assert run(tmp_path, on_result=lambda job, result: seen.append(job.name))
    assert seen == ["a", "b", "c", "d"]
    found = results(tmp_path)
    assert sorted(found) == [job.id for job in JOBS]
    assert len({result["process"] for result in found.values()}) == 1
    assert {result["threads"] for result in found.values()} == {"1"}
    assert all(result["seconds"]["wall"] >= 0 for result in found.values())
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_finished_jobs_are_skipped(tmp_path):
    (tmp_path / "fail-c").touch()
    with pytest.raises(JobError, match=r"data-s0-c failed: ValueError\('as asked'\)"):
        run(tmp_path)
    assert (tmp_path / "done.txt").read_text() == "ab"
    before = results(tmp_path)
    (tmp_path / "fail-c").unlink()
    assert run(tmp_path)
    assert (tmp_path / "done.txt").read_text() == "abcd"
    assert before.items() <= results(tmp_path).items()


def test_a_failed_job_does_not_discard_the_results_beside_it(tmp_path):
    (tmp_path / "fail-a").touch()
    waiting = tmp_path / "wait-b"
    waiting.touch()

    def finish() -> None:
        until_there_are(tmp_path / "failed-a", tmp_path / "began-b")
        waiting.unlink()

    thread = threading.Thread(target=finish)
    thread.start()
    with pytest.raises(JobError, match="data-s0-a failed"):
        run(tmp_path, workers=2)
    thread.join()
    assert list(results(tmp_path)) == [JOBS[1].id]


def test_as_many_jobs_run_at_the_same_time_as_there_are_workers(tmp_path):
    for job in JOBS[:2]:
        (tmp_path / f"wait-{job.name}").touch()

    def finish() -> None:
        at_once.append(until_there_are(tmp_path / "began-a", tmp_path / "began-b"))
        for job in JOBS[:2]:
            (tmp_path / f"wait-{job.name}").unlink()

    at_once: list[bool] = []
    thread = threading.Thread(target=finish)
    thread.start()
    assert run(tmp_path, workers=2)
    thread.join()
    assert at_once == [True]
    assert (tmp_path / "done.txt").read_text()[2:] == "cd"


def test_jobs_that_are_left_out_are_not_done(tmp_path):
    assert run(tmp_path, leave_out=lambda job: job.name in "cd")
    assert (tmp_path / "done.txt").read_text() == "ab"


def test_ctrl_c_waits_for_running_jobs_and_starts_no_others(tmp_path):
    waiting = tmp_path / "wait-a"
    waiting.touch()

    def interrupt() -> None:
        until_there_are(tmp_path / "began-a")
        os.kill(os.getpid(), signal.SIGINT)
        waiting.unlink()

    thread = threading.Thread(target=interrupt)
    requests: list[bool] = []
    interruption = Interruption(lambda: requests.append(waiting.exists()))
    with interruption.handled():
        thread.start()
        assert not run(tmp_path, interruption=interruption)
    thread.join()
    assert len(requests) == 1
    assert list(results(tmp_path)) == [JOBS[0].id]
    assert run(tmp_path)
    assert (tmp_path / "done.txt").read_text() == "abcd"


def test_ctrl_c_of_a_terminal_does_not_stop_a_running_job(tmp_path):
    (tmp_path / "signal-a").touch()  # a terminal sends it to every process
    assert run(tmp_path)
    assert (tmp_path / "done.txt").read_text() == "abcd"


class SlowToImport:
    """A job whose import takes long in a new process, where it names itself in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, job: LabJob) -> dict[str, object]:
        return work(self.folder, job)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        (self.folder / "process.txt.tmp").write_text(str(os.getpid()))
        (self.folder / "process.txt.tmp").rename(self.folder / "process.txt")
        until_there_are(self.folder / "signalled")


def test_ctrl_c_of_a_terminal_does_not_stop_a_starting_process(tmp_path):
    def interrupt() -> None:
        until_there_are(tmp_path / "process.txt")
        os.kill(int((tmp_path / "process.txt").read_text()), signal.SIGINT)
        (tmp_path / "signalled").touch()

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run(tmp_path, do=SlowToImport(tmp_path))
    thread.join()


def test_a_job_that_ctrl_c_stopped_has_no_result(tmp_path):
    (tmp_path / "stop-b").touch()
    assert not run(tmp_path)
    assert list(results(tmp_path)) == [JOBS[0].id]


def test_the_second_ctrl_c_aborts():
    interruption = Interruption(lambda: None)
    with interruption.handled():
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_status_of_a_command():
    check_status(0, "it")
    with pytest.raises(JobInterrupted):
        check_status(130, "it")
    with pytest.raises(JobError, match="it ended with status 3"):
        check_status(3, "it")
