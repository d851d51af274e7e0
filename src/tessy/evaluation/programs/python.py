"""Programs in Python: the files in the sandbox, and the output of the driver."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tessy.evaluation.programs import driver
from tessy.evaluation.sandbox.base import Execution, Limits
from tessy.evaluation.sandbox.interpreter import Interpreter

_MAIN = "run.py"


@dataclass(frozen=True, slots=True)
class PythonProgram:
    """A program and its driver, written into a folder of the sandbox.

    Attributes:
        argv: Its command line.
        nonce: Begins the lines that the driver writes. The program can read and write it too.
    """

    argv: Sequence[str]
    nonce: str

    def result(self, execution: Execution) -> str | None:
        """Return the JSON that the function returned; None if there is not exactly one."""
        lines = self._lines(execution.stdout)
        kind, _, text = lines[0].partition(" ") if len(lines) == 1 else ("", "", "")
        return text if kind == "result" else None

    def no_result(self, execution: Execution) -> str:
        """Return why there is no result."""
        lines = self._lines(execution.stdout)
        return lines[0] if len(lines) == 1 else f"{len(lines)} results instead of 1"

    def compile_error(self, execution: Execution) -> str | None:
        """Return the message of the compiler; None without an error."""
        for line in self._lines(execution.stderr):
            kind, _, text = line.partition(" ")
            if kind == "compile":
                return text
        return None

    def _lines(self, output: bytes) -> Sequence[str]:
        """Return the lines of the driver, without the nonce."""
        start = f"{self.nonce} ".encode()
        return [
            line[len(start) :].decode("utf-8", "replace")
            for line in output.split(b"\n")
            if line.startswith(start)
        ]


def place_python(
    code: str, box: Path, interpreter: Interpreter, function: str | None
) -> PythonProgram:
    """Write a program and its driver into a box.

    Args:
        code: The program.
        box: Folder for the files.
        interpreter: The Python to run it.
        function: Name of the function to call; None: run the program.
    """
    nonce = secrets.token_hex(16)
    (box / "main.py").write_bytes(code.encode("utf-8", "replace"))
    (box / "driver.py").write_bytes(Path(driver.__file__).read_bytes())
    start = f"import driver\ndriver.start({nonce!r}, {function!r})\n"
    (box / _MAIN).write_text(start, "utf-8")
    # -I would ignore the hash seed of the environment; -s excludes packages of the user.
    return PythonProgram([str(interpreter.path), "-s", _MAIN], nonce)


def python_limits(seconds: float, memory_mib: int) -> Limits:
    """Return the limits of a program in Python.

    Its memory limit is one of address space, as in OpenCompass, so that an allocation beyond it
    raises MemoryError.
    """
    stack = min(256, memory_mib // 4)  # for recursion through functions written in C
    return Limits(seconds, memory_mib, memory_mib, stack_mib=stack)
