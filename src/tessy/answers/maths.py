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
from functools import lru_cache

from tessy.core.errors import TessyError

LIMIT_SECONDS = 30.0
RECYCLE_AFTER = 2000


class MathsWorker:
    """One worker process, started when first needed. Thread-safe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._comparisons = 0
        self._lock = threading.Lock()

    def verify(self, reference: str, answer: str) -> bool:
        """Return whether two LaTeX expressions are equal; False if the limits are exceeded."""
        with self._lock:
            if self._comparisons >= RECYCLE_AFTER:
                self._stop()
            process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            self._comparisons += 1
            timer = threading.Timer(LIMIT_SECONDS, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps([reference, answer]) + "\n")
                process.stdin.flush()
                reply = process.stdout.readline()
            except BrokenPipeError:
                reply = ""
            finally:
                timer.cancel()
            if not reply:  # killed, or out of memory
                self._stop()
                return False
            return bool(json.loads(reply))

    def close(self) -> None:
        """End the process; the next comparison starts another one."""
        with self._lock:
            self._stop()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tessy.answers.maths_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        assert process.stdout is not None
        if not process.stdout.readline():
            process.wait()
            raise TessyError(
                "the worker process for Math-Verify does not start; try "
                f"`{sys.executable} -m tessy.answers.maths_worker`"
            )
        self._process, self._comparisons = process, 0
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


_worker = MathsWorker()
atexit.register(_worker.close)


@lru_cache(maxsize=10_000)
def same_formula(reference: str, answer: str) -> bool:
    """Return whether an answer has the value of a reference, both in LaTeX."""
    return _worker.verify(reference, answer)
