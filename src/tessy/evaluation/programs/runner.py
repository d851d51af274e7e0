"""Runs a program on its tests, one after the other, up to the first that fails. Blocks."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tessy.evaluation.programs.base import (
    ProgramStatus,
    ProgramTest,
    ProgramTests,
    ProgramVerdict,
)
from tessy.evaluation.programs.comparison import output_difference, result_difference, shortened
from tessy.evaluation.programs.cpp import CompileError, Compiler, cpp_limits
from tessy.evaluation.programs.gate import GatedSandbox, StoppedError
from tessy.evaluation.programs.python import PythonProgram, place_python, python_limits
from tessy.evaluation.sandbox.base import Execution, Limits, SandboxCommand, SandboxError
from tessy.evaluation.sandbox.interpreter import Interpreter

_CHECKER_LIMITS = Limits(cpu_seconds=10, memory_mib=512, address_space_mib=1024, stack_mib=256)
# Of testlib: wrong answer, presentation error, text after the answer, and its early end.
_REJECTIONS = (1, 2, 4, 8)
_NOT_FOUND = (126, 127)  # of `prlimit`; a program can have these statuses as well
_CPP_NAME = "program"


class _Undecided(Exception):
    """The program could not be judged; the message states why."""


class _Rejected(Exception):
    """The verdict on a program that is not accepted."""

    def __init__(self, status: ProgramStatus, detail: str) -> None:
        super().__init__(detail)
        self.status: ProgramStatus = status


@dataclass
class ProgramRunner:
    """Judges programs. Thread-safe.

    Attributes:
        sandbox: Sandbox of programs, compiler and checkers.
        interpreter: The Python of programs.
        compiler: Compiles programs and checkers.
        folder: Folder for files of programs, accessible to every user.
    """

    sandbox: GatedSandbox
    interpreter: Interpreter
    compiler: Compiler
    folder: Path

    def judge(self, code: str, tests: ProgramTests, stop: threading.Event) -> ProgramVerdict:
        """Return the verdict about a program.

        Raises:
            InputError: A compiler, testlib.h or a checker is missing.
        """
        index = None
        loaded = tests.load()
        try:
            if not loaded:
                raise _Undecided("the problem has no tests")
            with self._box() as box:
                program = _Program(self, code, tests, box, stop)
                for index in range(len(loaded)):
                    program.judge(loaded[index])
        except _Rejected as rejected:
            decided = None if rejected.status == "compile_error" else index
            return ProgramVerdict(rejected.status, decided, str(rejected))
        except (_Undecided, SandboxError) as error:
            return ProgramVerdict("judge_error", index, str(error))
        except StoppedError:
            return ProgramVerdict("judge_error", index, "the judge was stopped")
        return ProgramVerdict("accepted")

    def check_sandbox(self, folder: Path, stop: threading.Event) -> None:
        """Check that the sandbox still starts programs; raises SandboxError if it does not."""
        command = SandboxCommand([str(self.interpreter.path), "-c", ""], folder)
        if not self.sandbox.run(command, python_limits(60, 1024), stop).succeeded:
            raise SandboxError(f"{self.interpreter.path} does not run in the sandbox any more")

    @contextmanager
    def _box(self) -> Iterator[Path]:
        """Yield a folder with folders for the program, the compiler and the checker."""
        box = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            box.chmod(0o755)
            yield box
        finally:
            shutil.rmtree(box, ignore_errors=True)


class _Program:
    """A program that is ready to run."""

    def __init__(
        self,
        runner: ProgramRunner,
        code: str,
        tests: ProgramTests,
        box: Path,
        stop: threading.Event,
    ) -> None:
        self._runner = runner
        self._tests = tests
        self._folder = box
        self._stop = stop
        self._box = _subfolder(box, "program")
        self._python: PythonProgram | None = None
        if tests.language == "python":
            function = tests.function if tests.kind == "functional" else None
            self._python = place_python(code, self._box, runner.interpreter, function)
            self._argv: Sequence[str] = self._python.argv
            self._limits = python_limits(tests.seconds, tests.memory_mib)
        else:
            self._compile(code)
            self._argv = [f"./{_CPP_NAME}"]
            self._limits = cpp_limits(tests.seconds, tests.memory_mib)

    def _compile(self, code: str) -> None:
        if self._tests.kind == "functional":
            raise _Undecided("functions are judged in Python only")
        source = _subfolder(self._folder, "source")
        try:
            executable = self._runner.compiler.program(code, source, self._stop)
        except CompileError as error:
            raise _Rejected("compile_error", str(error)) from error
        path = self._box / _CPP_NAME
        path.write_bytes(executable)
        path.chmod(0o755)

    def judge(self, test: ProgramTest) -> None:
        """Run a test; raises the verdict if the program fails it."""
        if self._tests.kind == "functional":
            self._judge_result(test)
            return
        output = self._run(test.input.encode()).stdout
        if self._tests.kind == "checker":
            self._check(test, output)
            return
        difference = output_difference(output.decode("utf-8", "replace"), test.expected)
        if difference is not None:
            raise _Rejected("wrong_answer", difference)

    def _judge_result(self, test: ProgramTest) -> None:
        """Compare the result of a function, outside of the program's process."""
        assert self._python is not None
        lines = test.input.removesuffix("\n").split("\n")
        try:
            expected = json.loads(test.expected)
            for line in lines:
                json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _Undecided(f"the test is not JSON, one value a line: {error}") from error
        execution = self._run("\n".join(lines).encode())
        result = self._python.result(execution)
        if result is None:
            raise _Rejected("wrong_answer", shortened(self._python.no_result(execution)))
        difference = result_difference(result, expected)
        if difference is not None:
            raise _Rejected("wrong_answer", difference)

    def _run(self, stdin: bytes) -> Execution:
        """Run the program on an input; raises the verdict if it fails."""
        command = SandboxCommand(self._argv, self._box, stdin)
        execution = self._runner.sandbox.run(command, self._limits, self._stop)
        if _near_limit(execution, self._limits):
            execution = self._runner.sandbox.run(command, self._limits, self._stop, alone=True)
        failure = self._failure(execution)
        if failure is not None:
            raise failure
        return execution

    def _failure(self, execution: Execution) -> _Rejected | None:
        limit = self._limits.cpu_seconds
        if execution.ended == "memory":
            return _Rejected("memory_limit", f"more than {self._limits.memory_mib} MiB")
        if execution.ended == "output":
            return _Rejected("output_limit", f"more than {self._limits.output_mib} MiB")
        if execution.ended == "wall":
            waited = f"{self._limits.wall_seconds:g} s passed, with less CPU time than the limit"
            return _Rejected("time_limit", waited)
        if execution.ended == "cpu" or execution.cpu_seconds > limit:
            return _Rejected("time_limit", f"more than {limit:g} s of CPU time")
        return None if execution.exit_code == 0 else self._crash(execution)

    def _crash(self, execution: Execution) -> _Rejected:
        """Return the verdict about a program that ended with an error."""
        if self._python is not None:
            message = self._python.compile_error(execution)
            if message is not None:
                return _Rejected("compile_error", message)
        if execution.exit_code in _NOT_FOUND:
            self._runner.check_sandbox(self._folder, self._stop)
        lines = execution.stderr.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1].strip() if lines else ""
        out_of_memory = last.startswith("MemoryError") or "std::bad_alloc" in last
        status: ProgramStatus = "memory_limit" if out_of_memory else "runtime_error"
        return _Rejected(status, f"exit status {execution.exit_code}: {last[:200]}".rstrip(": "))

    def _check(self, test: ProgramTest, output: bytes) -> None:
        """Run the checker on an output; raises the verdict if it rejects the output."""
        assert self._tests.checker is not None
        box = self._folder / "checker"
        if not box.exists():
            source = _subfolder(self._folder, "checker-source")
            compiled = self._runner.compiler.checker(self._tests.checker, source, self._stop)
            shutil.copyfile(compiled, _subfolder(self._folder, "checker") / "checker")
            (box / "checker").chmod(0o755)
        # Written by the judge: the program could have changed its own copies.
        (box / "input").write_bytes(test.input.encode())
        (box / "output").write_bytes(output)
        (box / "expected").write_bytes(test.expected.encode())
        argv = ["./checker", "input", "output", "expected"]
        execution = self._runner.sandbox.run(SandboxCommand(argv, box), _CHECKER_LIMITS, self._stop)
        message = shortened(execution.stderr.decode("utf-8", "replace").strip())
        if execution.ended == "exit" and execution.exit_code in _REJECTIONS:
            raise _Rejected("wrong_answer", f"the checker: {message}")
        if not execution.succeeded:
            why = execution.ended if execution.exit_code is None else execution.exit_code
            raise _Undecided(f"the checker failed ({why}): {message}")


def _subfolder(folder: Path, name: str) -> Path:
    subfolder = folder / name
    subfolder.mkdir(mode=0o755)
    return subfolder


def _near_limit(execution: Execution, limits: Limits) -> bool:
    """Return whether other load of the machine may have caused an excess of the time limit."""
    if execution.ended == "exit":
        return execution.cpu_seconds > limits.cpu_seconds
    return execution.ended == "wall" and execution.cpu_seconds > limits.cpu_seconds / 2
