"""Sandboxes and judges for tests. A missing tool skips a test, and fails it in CI."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tessy.core.errors import ConfigError
from tessy.evaluation.programs.base import ProgramTest, ProgramTests
from tessy.evaluation.programs.judge import ProcessJudge
from tessy.evaluation.sandbox.base import Execution, Limits, Sandbox, SandboxCommand, SandboxError
from tessy.evaluation.sandbox.bubblewrap import Bubblewrap
from tessy.evaluation.sandbox.detect import OpenedSandbox, sandbox_filter
from tessy.evaluation.sandbox.interpreter import Interpreter, find_interpreter
from tessy.evaluation.sandbox.landlock import Landlock

BACKENDS: Mapping[str, Callable[[Interpreter, bytes | None], Sandbox]] = {
    "bubblewrap": Bubblewrap,
    "landlock": Landlock,
}


def missing(message: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def system_python() -> Interpreter:
    """Return the Python of programs; without one, skip the module that imports this one."""
    try:
        return find_interpreter()
    except ConfigError as error:
        missing(str(error))


PYTHON = system_python()


def backend(name: str) -> Sandbox:
    """Return a sandbox by its name."""
    try:
        return BACKENDS[name](PYTHON, sandbox_filter())
    except SandboxError as error:
        missing(f"{name} does not work here: {error}")


def needs_gxx() -> None:
    """Skip the test without a compiler for C++."""
    if not shutil.which("g++"):
        missing("g++ is not installed")


@contextmanager
def running_judge(*, workers: int = 2, sandbox: Sandbox | None = None) -> Iterator[ProcessJudge]:
    """Yield a judge, without the checks of its sandbox that :func:`open_judge` makes."""
    opened = OpenedSandbox(sandbox or backend("bubblewrap"), PYTHON, {})
    judge = ProcessJudge(opened, workers=workers)
    try:
        yield judge
    finally:
        judge.close()


def run_python(
    sandbox: Sandbox, code: str, box: Path, *, stdin: bytes = b"", limits: Limits | None = None
) -> Execution:
    """Run a program in a sandbox, in a new folder ``box``."""
    box.mkdir()
    box.chmod(0o755)
    (box / "main.py").write_text(code, "utf-8")
    command = SandboxCommand([str(PYTHON.path), "-s", "main.py"], box, stdin)
    return sandbox.run(command, limits or Limits(10, 512, 512), threading.Event())


def program_tests(*pairs: tuple[str, str], **options: object) -> ProgramTests:
    """Return tests of a program in Python that reads standard input; ``options`` change that."""
    fields = {"language": "python", "kind": "stdin", "seconds": 10.0, "memory_mib": 512}
    loaded = [ProgramTest(*pair) for pair in pairs]
    return ProgramTests(load=lambda: loaded, **{**fields, **options})  # type: ignore[arg-type]


@contextmanager
def folder_for_boxes() -> Iterator[Path]:
    """Yield a folder that every user can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="tessy-test-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


# An argument of `sleep` by which the processes of these tests are found: those of another test
# process, which may run the same tests at this moment, have another one.
MARKER = f"4321.{os.getpid()}"


def processes_with(argument: str) -> list[str]:
    """Return the ids of processes with this argument on their command line."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            command = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argument.encode() in command:
            found.append(name)
    return found
