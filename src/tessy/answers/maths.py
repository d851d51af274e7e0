"""Math-Verify in a process of its own.

Math-Verify limits its time with signals, which only a main thread can receive, and some inputs
exhaust memory. So it runs in a worker process with a memory limit, which is killed after
``LIMIT_SECONDS`` and replaced after ``RECYCLE_AFTER`` comparisons.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from tessy.core.errors import TessyError

LIMIT_SECONDS = 30.0
RECYCLE_AFTER = 2000


class UndecidedError(TessyError):
    """A comparison without a result, because the worker process did not finish it."""


class WorkerLostError(UndecidedError):
    """The worker process ended, and its successor too, without a known reason."""


class ExpiredError(UndecidedError):
    """The worker process exceeded the time limit and was killed."""


class MathsWorker:
    """One worker process, started when first needed. Thread-safe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._comparisons = 0
        self._lock = threading.Lock()

    def verify(self, reference: str, answer: str, tolerance: float | None = None) -> bool:
        """Return whether two LaTeX expressions are equal; False if Math-Verify cannot decide.

        With a tolerance, they are numbers that differ by at most that much.

        Raises:
            ExpiredError: The process was killed at the time limit.
            WorkerLostError: The process ended twice before its reply and before the time limit.
        """
        pair = json.dumps([reference, answer, tolerance]) + "\n"
        with self._lock:
            for _ in range(2):
                reply = self._ask(pair)
                if reply is not None:
                    return reply
        raise WorkerLostError("the worker process for Math-Verify ended before its reply, twice")

    def _ask(self, pair: str) -> bool | None:
        """Return the reply; None if the process ended before it for an unknown reason."""
        if self._comparisons >= RECYCLE_AFTER:
            self._stop()
        process = self._process or self._start()
        assert process.stdin is not None
        self._comparisons += 1
        try:
            with _time_limit(process) as expired:
                process.stdin.write(pair)
                process.stdin.flush()
                reply = _line(process)
        except BrokenPipeError:
            reply = ""
        except BaseException:
            self._stop()  # an unread reply would be taken for the next one
            raise
        if reply:
            return bool(json.loads(reply))
        self._stop()
        if expired.is_set():
            raise ExpiredError(f"Math-Verify was killed after {LIMIT_SECONDS:g} s without a result")
        return None

    def close(self) -> None:
        """End the process; the next comparison starts another one."""
        with self._lock:
            self._stop()

    def _start(self) -> subprocess.Popen[str]:
        # -P: a module in the current folder must not replace one of ours.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tessy.answers.maths_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._process, self._comparisons = process, 0
        try:
            with _time_limit(process):
                ready = _line(process)
        except BaseException:
            self._stop()
            raise
        if not ready:
            self._stop()
            raise TessyError(
                "the worker process for Math-Verify does not start; try "
                f"`{sys.executable} -P -m tessy.answers.maths_worker`"
            )
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


@contextmanager
def _time_limit(process: subprocess.Popen[str]) -> Iterator[threading.Event]:
    """Kill a process after ``LIMIT_SECONDS``; the event is set before."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(LIMIT_SECONDS, expire)
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _line(process: subprocess.Popen[str]) -> str:
    """Return the next whole line of a process; "" if it ends before."""
    assert process.stdout is not None
    line = process.stdout.readline()
    return line if line.endswith("\n") else ""


_worker = MathsWorker()
atexit.register(_worker.close)


def same_formula(reference: str, answer: str, tolerance: float | None = None) -> bool:
    """Return whether an answer has the value of a reference, both in LaTeX.

    With a ``tolerance``, both are numbers that differ by at most that much.

    Raises:
        UndecidedError: The worker process did not finish the comparison.
        TessyError: The worker process does not start.
    """
    expired = _verify(reference, answer, tolerance)
    if isinstance(expired, ExpiredError):
        raise expired
    return expired


@lru_cache(maxsize=10_000)
def _verify(reference: str, answer: str, tolerance: float | None) -> bool | ExpiredError:
    try:
        return _worker.verify(reference, answer, tolerance)
    except ExpiredError as error:  # unlike a lost worker, it would expire again
        return error.with_traceback(None)
