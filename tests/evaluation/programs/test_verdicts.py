"""Verdicts of the judge: real programs in a real sandbox."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tessy.evaluation.programs.base import ProgramTests
from tessy.evaluation.programs.judge import ProcessJudge
from tests.support.sandboxes import BACKENDS, backend, program_tests, running_judge


@pytest.fixture(scope="module")
def judge() -> Iterator[ProcessJudge]:
    with running_judge() as one:
        yield one


SUM = program_tests(("1 2\n", "3\n"), ("4 5\n", "9\n"))
SHORT = program_tests(("1 2\n", "3\n"), seconds=0.4)

STDIN = {
    "correct": ("print(sum(map(int, input().split())))", "accepted", None),
    "wrong at the second test": ("print(3)", "wrong_answer", 1),
    "no output": ("", "wrong_answer", 0),
    "exception": ("print(3)\n1 / 0", "runtime_error", 0),
    "exit status": ("print(3)\nexit(1)", "runtime_error", 0),
    "exit status of a missing program": ("exit(127)", "runtime_error", 0),
    "exit without error": ("print(sum(map(int, input().split())))\nexit()", "accepted", None),
    "syntax": ("print(", "compile_error", None),
    "NUL in the source": ("a = 1\0", "compile_error", None),
    "surrogate in the source": ("print('\ud800')", "wrong_answer", 0),
    "nested too deeply": ("(" * 10_000 + ")" * 10_000, "compile_error", None),
    "memory": ("x = [0] * 10**9", "memory_limit", 0),
    "resident memory": (
        "import os, time\nos.fork(); os.fork()\nx = bytearray(200 << 20)\ntime.sleep(9)",
        "memory_limit",
        0,
    ),
    "output": ("while True: print('y' * 100_000)", "output_limit", 0),
}


@pytest.mark.parametrize("name", STDIN)
async def test_a_program_that_reads_its_input(judge: ProcessJudge, name: str):
    code, status, test = STDIN[name]
    verdict = await judge.judge(code, SUM)
    assert (verdict.status, verdict.test) == (status, test), verdict


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(9)"])
async def test_a_program_that_takes_too_long(judge: ProcessJudge, code: str):
    verdict = await judge.judge(code, SHORT)
    assert (verdict.status, verdict.test) == ("time_limit", 0), verdict


# Programs that the official runner of LiveCodeBench treats in another way (docs/sandbox.md), and
# whether this judge accepts them.
READ = "import sys\n"
QUIRKS = {
    "iterates over stdin": (READ + "for line in sys.stdin: print(sum(map(int, line.split())))", 1),
    "reads bytes": (READ + "print(sum(map(int, sys.stdin.buffer.readline().split())))", 1),
    "reads a line, then the rest": (
        READ + "a = sys.stdin.readline()\nb = sys.stdin.read()\n"
        "print(sum(map(int, a.split())) + len(b))",
        1,
    ),
    "open(0)": ("print(sum(map(int, open(0).read().split())))", 1),
    "writes bytes": (
        READ + "sys.stdout.buffer.write(str(sum(map(int, input().split()))).encode())",
        1,
    ),
    "writes to the descriptor": (
        "import os\nos.write(1, str(sum(map(int, input().split()))).encode())",
        1,
    ),
    "global at module level": (
        "global total\ntotal = sum(map(int, input().split()))\n"
        "def show():\n    global total\n    print(total)\nshow()",
        1,
    ),
    "future import": (
        "from __future__ import annotations\ndef f(x: Unknown): print(sum(x))\n"
        "f(map(int, input().split()))",
        1,
    ),
    "main in a thread that is not joined": (
        "import threading\n"
        "threading.Thread(target=lambda: print(sum(map(int, input().split())))).start()",
        1,
    ),
    "main guard": ("if __name__ == '__main__': print(sum(map(int, input().split())))", 1),
    "input replaced": (
        READ + "input = sys.stdin.readline\nprint(sum(map(int, input().split())))",
        1,
    ),
    "names without imports": ("print(reduce(add, map(int, input().split())))", 1),
    "pow of three arguments": (
        "a, b = map(int, input().split())\nprint(a + b + pow(2, 3, 8))",
        1,
    ),
    "deep recursion": (
        "def f(n): return 0 if n == 0 else f(n - 1)\n"
        "print(sum(map(int, input().split())) + f(40_000))",
        1,
    ),
    "other number format": ("print(float(sum(map(int, input().split()))))", 1),
    "nearly the number": ("print(sum(map(int, input().split())) + 1e-9)", 0),
    "reads past the end": ("input(); input()", 0),
}


@pytest.mark.parametrize("name", QUIRKS)
async def test_programs_that_runners_treat_differently(judge: ProcessJudge, name: str):
    code, accepted = QUIRKS[name]
    verdict = await judge.judge(code, SUM)
    assert (verdict.status == "accepted") == bool(accepted), verdict


async def test_a_word_in_another_case_is_wrong(judge: ProcessJudge):
    assert (await judge.judge("print('yes')", program_tests(("", "YES")))).status == "wrong_answer"


async def test_the_input_arrives_unchanged(judge: ProcessJudge):
    text = "é\r\n" + "x" * 3_000_000 + "\n\n 1 \n"
    code = "import hashlib\nprint(hashlib.md5(sys.stdin.buffer.read()).hexdigest())"
    expected = hashlib.md5(text.encode()).hexdigest()
    assert (await judge.judge(code, program_tests((text, expected)))).status == "accepted"


def calls(arguments: str, expected: str) -> ProgramTests:
    return program_tests((arguments, expected), kind="functional", function="solve")


METHOD = "class Solution:\n    def solve(self, *args):\n        return "
FUNCTIONAL = {
    "list": (METHOD + "[x + args[1] for x in args[0]]", "[1, 2]\n3", "[4, 5]", "accepted"),
    "tuple": (METHOD + "(4, 5)", "1", "[4, 5]", "accepted"),
    "nested tuple": (METHOD + "[(4, 5)]", "1", "[[4, 5]]", "accepted"),
    "number of another type": (METHOD + "2.0", "1", "2", "accepted"),
    "text": (METHOD + "'a' + args[0]", '"\u2028é"', '"a\u2028é"', "accepted"),
    "nothing": (METHOD + "None", "1", "null", "accepted"),
    "function without a class": ("def solve(x): return x", "1", "1", "accepted"),
    "prints as well": (METHOD + "print('result 2', end='') or args[0]", "1", "1", "accepted"),
    "types without imports": (
        "class Solution:\n    def solve(self, x: List[int]) -> Optional[int]: return max(x)",
        "[1, 2]",
        "2",
        "accepted",
    ),
    "main guard is not run": (
        METHOD + "args[0]\nif __name__ == '__main__': 1 / 0",
        "1",
        "1",
        "accepted",
    ),
    "leaves a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\n"
        + METHOD
        + "args[0]",
        "1",
        "1",
        "accepted",
    ),
    "trailing line end": (METHOD + "len(args)", "1\n2\n", "2", "accepted"),
    "wrong": (METHOD + "args[0] + 1", "1", "1", "wrong_answer"),
    "set": (METHOD + "{1}", "1", "[1]", "wrong_answer"),
    "element of the list": (METHOD + "1", "1", "[1, 2, 3]", "wrong_answer"),
    "exception": (METHOD + "1 / 0", "1", "1", "runtime_error"),
    "no such method": ("class Solution: pass", "1", "1", "runtime_error"),
    "syntax": ("class Solution", "1", "1", "compile_error"),
    "exits": (METHOD + "exit()", "1", "1", "wrong_answer"),
    "a test without JSON": (METHOD + "1", "one", "1", "judge_error"),
    "an expected result without JSON": (METHOD + "1", "1", "one", "judge_error"),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
async def test_a_function(judge: ProcessJudge, name: str):
    code, arguments, expected, status = FUNCTIONAL[name]
    verdict = await judge.judge(code, calls(arguments, expected))
    assert verdict.status == status, verdict


@pytest.mark.parametrize("name", BACKENDS)
async def test_every_sandbox_has_the_same_verdicts(name: str):
    with running_judge(sandbox=backend(name)) as other:
        for code, status, _ in (STDIN[one] for one in ("correct", "exception", "syntax", "memory")):
            assert (await other.judge(code, SUM)).status == status
        for one in ("list", "wrong", "set"):
            code, arguments, expected, status = FUNCTIONAL[one]
            assert (await other.judge(code, calls(arguments, expected))).status == status


async def test_a_problem_without_tests_has_no_verdict(judge: ProcessJudge):
    verdict = await judge.judge("", program_tests())
    assert verdict.status == "judge_error"
    assert "no tests" in verdict.detail


def test_the_version_names_all_that_a_verdict_depends_on(judge: ProcessJudge):
    assert judge.version.startswith("process 1 (bubblewrap ")
    assert "Python 3." in judge.version
