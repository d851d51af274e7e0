"""Interface of the judge of programs: tests, verdicts, and the judge itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Language = Literal["python", "cpp"]

ProgramStatus = Literal[
    "accepted",
    "wrong_answer",
    "runtime_error",
    "time_limit",
    "memory_limit",
    "output_limit",
    "compile_error",
    "judge_error",  # the sandbox or a checker failed: no statement about the program
]


class ProgramTest(NamedTuple):
    """A test of a program.

    With ``stdin`` and ``checker``: the program's input and expected output. With ``functional``:
    the arguments, one JSON value a line, and the expected result as JSON.
    """

    input: str
    expected: str


@dataclass(frozen=True, slots=True)
class ProgramTests:
    """All tests of a problem.

    Attributes:
        language: Language of the program.
        kind: How a test runs: the program's output is compared, a function's result is compared,
            or a testlib checker decides about the output.
        load: Returns the tests. They can be large, so they are read only while a response is
            judged.
        function: Name of the method of ``Solution``, with ``functional``.
        checker: C++ source of the checker, with ``checker``. It is called as
            ``checker input output expected``; exit status 0 accepts, 1, 2, 4 and 8 reject, as
            those of testlib do, and all others are failures of the checker.
        seconds: CPU time limit of a test.
        memory_mib: Memory limit in MiB.
    """

    language: Language
    kind: Literal["stdin", "functional", "checker"]
    load: Callable[[], Sequence[ProgramTest]]
    function: str | None = None
    checker: Path | None = None
    seconds: float = 6.0
    memory_mib: int = 4096


class ProgramVerdict(NamedTuple):
    """Verdict on a program: the status of the first failed test, or ``accepted``."""

    status: ProgramStatus
    test: int | None = None  # index of the test that decided
    detail: str = ""


class ProgramJudge(Protocol):
    """Runs programs in a sandbox. A bounded number run at the same time."""

    @property
    def version(self) -> str:
        """The version of judge, sandbox and interpreter, as scores state it."""
        ...

    @property
    def record(self) -> Mapping[str, object]:
        """The sandbox, its known gaps and its checks, for scores.json."""
        ...

    async def judge(self, code: str, tests: ProgramTests) -> ProgramVerdict:
        """Judge a program; does not block the event loop.

        A failure of the sandbox is ``judge_error``, never a verdict about the program.
        """
        ...

    def close(self) -> None:
        """Stop running programs."""
        ...
