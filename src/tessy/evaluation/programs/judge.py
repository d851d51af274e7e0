"""The judge of programs: a bounded number of them at the same time, in threads."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tessy.core.errors import ConfigError
from tessy.evaluation.programs.base import ProgramJudge, ProgramTests, ProgramVerdict
from tessy.evaluation.programs.cpp import (
    Compiler,
    cache_folder,
    compiler_version,
    default_testlib,
)
from tessy.evaluation.programs.gate import GatedSandbox
from tessy.evaluation.programs.runner import ProgramRunner
from tessy.evaluation.sandbox.detect import OpenedSandbox, open_sandbox

_VERSION = "1"  # changes whenever a verdict may change


class ProcessJudge:
    """Judges programs by the output of their processes."""

    def __init__(self, opened: OpenedSandbox, *, workers: int) -> None:
        """Create the judge.

        Args:
            opened: The sandbox.
            workers: Maximum number of programs at the same time.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="tessy-judge-"))
        self._folder.chmod(0o755)
        sandbox = GatedSandbox(opened.sandbox)
        compiler = Compiler(sandbox, cache_folder() / "checkers", default_testlib())
        self._opened = opened
        self._runner = ProgramRunner(sandbox, opened.interpreter, compiler, self._folder)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="program")
        self._stops: set[threading.Event] = set()

    @property
    def version(self) -> str:
        """Versions of the judge, the sandbox, the interpreter and the compiler."""
        parts = [self._opened.sandbox.name, f"Python {self._opened.interpreter.version}"]
        with suppress(ConfigError):
            parts.append(f"g++ {compiler_version()}")
        return f"process {_VERSION} ({', '.join(parts)})"

    @property
    def record(self) -> Mapping[str, object]:
        """The sandbox and its checks, for results."""
        return self._opened.to_json()

    async def judge(self, code: str, tests: ProgramTests) -> ProgramVerdict:
        """Judge a program; see :meth:`ProgramJudge.judge`. Cancelling it kills the program.

        Raises:
            InputError: A compiler, testlib.h or a checker is missing.
        """
        stop = threading.Event()
        self._stops.add(stop)
        job = self._threads.submit(self._runner.judge, code, tests, stop)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            stop.set()
            if not job.cancelled():
                with suppress(Exception):
                    await asyncio.wrap_future(job)
            raise
        finally:
            self._stops.discard(stop)

    def close(self) -> None:
        """Kill all programs, and wait for their end."""
        for stop in tuple(self._stops):
            stop.set()
        self._threads.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def open_judge(*, workers: int, allow_unsafe: bool, python: Path | None = None) -> ProgramJudge:
    """Return a judge with the best sandbox of this machine. Blocks for about a second.

    Args:
        workers: Maximum number of programs at the same time, at least 1.
        allow_unsafe: Whether to run programs without protection if no sandbox works.
        python: The Python of programs; None: that of the system.

    Raises:
        ConfigError: No sandbox works. The message states why, and what to install.
    """
    opened = open_sandbox(allow_unsafe=allow_unsafe, python=python)
    return ProcessJudge(opened, workers=workers)
