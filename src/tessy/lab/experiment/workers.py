"""Worker processes of one thread each, which run jobs; each result is written to a file."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

from tessy.core.errors import TessyError
from tessy.lab.experiment.design import LabJob
from tessy.lab.experiment.outcomes import JobError, JobInterrupted
from tessy.lab.experiment.paths import LabPaths
from tessy.storage import jsonl
from tessy.storage.atomic import make_directory

# Threads of BLAS and OpenMP only slow tiny models down, and change sums.
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_POLL_SECONDS = 1.0  # between checks for a request to stop

Do = Callable[[LabJob], dict[str, object]]
OnResult = Callable[[LabJob, dict[str, object]], None]


class Interruption:
    """A request to stop by Ctrl-C or SIGTERM: no further job starts. The second one raises."""

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.requested = False
        self._on_request = on_request

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._on_request()

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals in this block."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def finished(paths: LabPaths, job: LabJob) -> bool:
    """Return whether a job has a result."""
    return paths.result(job).is_file()


def run_all(
    jobs: Sequence[LabJob],
    needs: Callable[[LabJob], Sequence[str]],
    do: Do,
    paths: LabPaths,
    *,
    workers: int,
    on_result: OnResult,
    leave_out: Callable[[LabJob], bool],
    interruption: Interruption,
) -> bool:
    """Run the jobs that have no result, in order, each after the jobs that it needs.

    ``do`` runs in another process. ``on_result`` is called with each new result; an exception of it
    ends the run. ``leave_out`` returns whether a job is skipped; it may change during the run.
    Returns whether all jobs are finished: False after an interruption, when the running jobs have
    ended.

    Raises:
        JobError: A job failed. The others that were running are finished, and their results kept.
    """
    waiting = [job for job in jobs if not finished(paths, job)]
    done = {job.id for job in jobs} - {job.id for job in waiting}
    running: dict[Future[dict[str, object]], LabJob] = {}
    first_error: TessyError | None = None
    with _pool(workers, paths.logs, do) as pool:
        while waiting or running:
            waiting = [job for job in waiting if not leave_out(job)]
            ready = [job for job in waiting if done.issuperset(needs(job))]
            stopping = interruption.requested or first_error is not None
            for job in () if stopping else ready[: workers - len(running)]:
                waiting.remove(job)
                with _no_interruption():  # which a new process inherits
                    running[pool.submit(_timed, job)] = job
            if not running:
                break
            ended, _ = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
            for future in ended:
                job = running.pop(future)
                try:
                    result = _result(future, job, paths)
                    if result is not None:
                        done.add(job.id)
                        on_result(job, result)
                except TessyError as error:
                    first_error = first_error or error
    if first_error is not None:
        raise first_error
    return all(finished(paths, job) or leave_out(job) for job in jobs)


@contextlib.contextmanager
def _pool(workers: int, logs: Path, do: Do) -> Iterator[ProcessPoolExecutor]:
    make_directory(logs)
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(logs, do)
    )
    try:
        yield pool
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_do: Do | None = None  # of this worker process


@contextlib.contextmanager
def _no_interruption() -> Iterator[None]:
    """Block Ctrl-C until the end of the block, and for good in a process that is started there.

    A job's commands install handlers, so it is not enough that its process ignores the signal.
    """
    resource_tracker.ensure_running()  # which would unblock the signal when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(logs: Path, do: Do) -> None:
    """Prepare a worker process: one thread, output into a file.

    Unpickling ``do`` has imported its modules.
    """
    global _do
    _do = do
    log = (logs / f"worker-{os.getpid()}.log").open("a", encoding="utf-8", buffering=1)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log.fileno(), stream.fileno())
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    gc.freeze()  # collections need not traverse the objects of imported modules


def _timed(job: LabJob) -> dict[str, object]:
    assert _do is not None  # set when the process started
    print(f"== {job.id}", flush=True)
    started, used = time.monotonic(), _cpu_seconds()
    result = _do(job)
    seconds = {"wall": time.monotonic() - started, "cpu": _cpu_seconds() - used}
    return {**result, "seconds": {name: round(value, 2) for name, value in seconds.items()}}


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its processes that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def _result(
    future: Future[dict[str, object]], job: LabJob, paths: LabPaths
) -> dict[str, object] | None:
    """Return a result, which is written to its file; None if the job was interrupted."""
    try:
        result = future.result()
    except JobInterrupted:
        return None
    except BrokenProcessPool as error:
        raise JobError(
            f"the process of {job.id}, or of a job beside it, was killed, perhaps for lack of "
            "memory; run the same command to resume with fewer --workers"
        ) from error
    except Exception as error:
        raise JobError(
            f"{job.id} failed: {error!r}; {paths.logs} has its output. The same command resumes "
            "the experiment"
        ) from error
    jsonl.write_json(paths.result(job), {"job": job.id, **result})
    return result
