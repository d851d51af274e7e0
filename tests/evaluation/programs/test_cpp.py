"""Programs and checkers in C++."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tessy.core.errors import ConfigError, InputError
from tessy.evaluation.programs.base import ProgramTests
from tessy.evaluation.programs.cpp import (
    COMPILE_LIMITS,
    CompileError,
    Compiler,
    compiler_version,
    default_testlib,
)
from tessy.evaluation.programs.gate import GatedSandbox
from tessy.evaluation.programs.judge import ProcessJudge
from tests.support.sandboxes import (
    BACKENDS,
    backend,
    folder_for_boxes,
    needs_gxx,
    program_tests,
    running_judge,
)

READ_TWO = '#include <cstdio>\n#include <cstdlib>\nint main() { int a, b; scanf("%d%d", &a, &b);'
SUM = READ_TWO + 'printf("%d\\n", a + b); }'
PROGRAMS = {
    "correct": (SUM, "accepted"),
    "wrong": (READ_TWO + 'printf("%d\\n", a * b); }', "wrong_answer"),
    "does not compile": (READ_TWO + "return c; }", "compile_error"),
    "division by zero": (READ_TWO + "return a / (b - 2); }", "runtime_error"),
    "aborts": (READ_TWO + "abort(); }", "runtime_error"),
    "exit status": (READ_TWO + 'printf("%d\\n", a + b); return 1; }', "runtime_error"),
    "endless": (READ_TWO + "for (volatile int n = 0;; n++); }", "time_limit"),
    "uses much memory": (
        READ_TWO
        + "for (int i = 0; i < 400; i++) { volatile char *p = (char *)malloc(1 << 20);"
        + "for (int k = 0; k < 1 << 20; k += 4096) p[k] = 1; }"
        + "for (volatile int n = 0;; n++); }",
        "memory_limit",
    ),
    "a large array that is not used": (
        "static char large[300 << 20];\n" + SUM.replace("a + b", "a + b + large[a]"),
        "accepted",
    ),
    "deep recursion": (
        "int f(int n) { volatile char x[1000]; x[0] = n; return n ? f(n - 1) : 0; }\n"
        + SUM.replace("a + b", "a + b + f(100000)"),
        "accepted",
    ),
    "reads the system's accounts": ('#include "/etc/passwd"\n' + SUM, "compile_error"),
}


@pytest.fixture(scope="module")
def judge() -> Iterator[ProcessJudge]:
    needs_gxx()
    with running_judge() as one:
        yield one


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program(judge: ProcessJudge, name: str):
    code, status = PROGRAMS[name]
    seconds = 0.4 if status == "time_limit" else 10.0
    tests = program_tests(("1 2", "3"), language="cpp", seconds=seconds, memory_mib=256)
    verdict = await judge.judge(code, tests)
    assert verdict.status == status, verdict


async def test_the_message_of_the_compiler_is_kept(judge: ProcessJudge):
    verdict = await judge.judge("int main() { return c; }", program_tests(("", ""), language="cpp"))
    assert verdict.detail.startswith("main.cpp:1:21: error: ")


async def test_functions_are_judged_in_python_only(judge: ProcessJudge):
    tests = program_tests(("1", "1"), language="cpp", kind="functional", function="solve")
    verdict = await judge.judge(SUM, tests)
    assert verdict.status == "judge_error"


BOMBS = {
    "endless header": '#include "/dev/zero"\n',
    "templates": (
        "template<int a, int b> struct X { static const long n = X<a - 1, b>::n + "
        "X<a - 1, b + 1>::n; };\n"
        "template<int b> struct X<0, b> { static const long n = b; };\n"
        "int main() { return X<400, 0>::n; }"
    ),
    "large executable": "char large[1 << 29] = {1};\nint main() {}",
}


@pytest.mark.parametrize("sandbox", BACKENDS)
def test_bombs_hit_the_limits_of_the_compiler(sandbox: str, tmp_path: Path):
    needs_gxx()
    limits = replace(COMPILE_LIMITS, cpu_seconds=1.5, memory_mib=200, disk_mib=64)
    compiler = Compiler(GatedSandbox(backend(sandbox)), tmp_path, tmp_path, limits)
    for name, code in BOMBS.items():
        with folder_for_boxes() as box, pytest.raises(CompileError) as raised:
            compiler.program(code, box, threading.Event())
        assert str(raised.value), name


@pytest.mark.parametrize("sandbox", BACKENDS)
async def test_every_sandbox_compiles(sandbox: str):
    needs_gxx()
    with running_judge(sandbox=backend(sandbox)) as one:
        verdict = await one.judge(SUM, program_tests(("1 2", "3"), language="cpp"))
    assert verdict.status == "accepted", verdict


# A checker that accepts any output with the sum of the input, and has testlib's exit statuses.
CHECKER = """
#include <fstream>
#include <iostream>
int main(int, char **arguments) {
    std::ifstream input(arguments[1]), output(arguments[2]), expected(arguments[3]);
    long a, b, reference, sum = 0, one;
    input >> a >> b;
    expected >> reference;
    if (a + b != reference) return 3;
    while (output >> one) sum += one;
    if (!output.eof()) { std::cerr << "not a number"; return 2; }
    if (sum == 666) abort();
    if (sum == 777) return 99;
    std::cerr << "sum " << sum;
    return sum != reference;
}
"""


def checked(folder: Path, *, language: str = "python", source: str = CHECKER) -> ProgramTests:
    checker = folder / "checker.cpp"
    checker.write_text(source)
    return program_tests(("1 5", "6"), kind="checker", checker=checker, language=language)


OUTPUTS = {
    "another correct output": ("print(2, 4)", "accepted"),
    "wrong": ("print(2, 5)", "wrong_answer"),
    "not of the format": ("print('six')", "wrong_answer"),
    "the program fails": ("print(6)\n1 / 0", "runtime_error"),
    "the checker crashes": ("print(666)", "judge_error"),
    "the checker has another status": ("print(777)", "judge_error"),
    "changes the checker's input": (
        "for name in ('/dev/stdin', '/proc/self/fd/0', 'input', '../checker/input'):\n"
        "    try: open(name, 'w').write('1 1')\n"
        "    except OSError: pass\n"
        "print(2)",
        "wrong_answer",
    ),
}


async def test_a_checker_decides(judge: ProcessJudge, tmp_path: Path):
    tests = checked(tmp_path)
    verdicts = await asyncio.gather(*(judge.judge(code, tests) for code, _ in OUTPUTS.values()))
    found = dict(zip(OUTPUTS, verdicts, strict=True))
    assert {name: one.status for name, one in found.items()} == {
        name: status for name, (_, status) in OUTPUTS.items()
    }
    assert found["wrong"].detail == "the checker: sum 7"
    assert "99" in found["the checker has another status"].detail


async def test_a_checker_is_compiled_once(tmp_path: Path):
    needs_gxx()
    tests = checked(tmp_path)
    with running_judge() as first:
        assert (await first.judge("print(6)", tests)).status == "accepted"
    (compiled,) = (tmp_path / "tessy" / "checkers").iterdir()
    shutil.copyfile("/bin/false", compiled)  # which rejects everything
    with running_judge() as second:
        assert (await second.judge("print(6)", tests)).status == "wrong_answer"
        again = checked(tmp_path, source=CHECKER + "// changed\n")
        assert (await second.judge("print(6)", again)).status == "accepted"


async def test_a_checker_that_does_not_compile_is_no_verdict(judge: ProcessJudge, tmp_path: Path):
    verdict = await judge.judge("print(6)", checked(tmp_path, source="int main( {}"))
    assert verdict.status == "judge_error"
    assert "does not compile" in verdict.detail


async def test_a_missing_checker_is_named(judge: ProcessJudge, tmp_path: Path):
    tests = replace(checked(tmp_path), checker=tmp_path / "other.cpp")
    with pytest.raises(InputError, match=r"other\.cpp"):
        await judge.judge("print(6)", tests)


WITH_TESTLIB = '#include "testlib.h"\n' + CHECKER.replace("abort()", "forbidden()")


async def test_testlib_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needs_gxx()
    header = tmp_path / "own" / "testlib.h"
    header.parent.mkdir()
    header.write_text("#include <cstdlib>\ninline void forbidden() { std::abort(); }\n")
    monkeypatch.setenv("TESSY_TESTLIB", str(header))
    with running_judge() as one:
        tests = checked(tmp_path, source=WITH_TESTLIB)
        assert (await one.judge("print(6)", tests)).status == "accepted"


async def test_without_testlib_the_message_says_how_to_get_it(judge: ProcessJudge, tmp_path: Path):
    assert default_testlib() == tmp_path / "tessy" / "testlib.h"
    with running_judge() as one, pytest.raises(ConfigError, match="scripts/fetch-testlib"):
        await one.judge("print(6)", checked(tmp_path, source=WITH_TESTLIB))


@pytest.mark.skipif(
    "TESSY_TESTLIB" not in os.environ, reason="TESSY_TESTLIB is not set (scripts/fetch-testlib)"
)
async def test_the_real_testlib(tmp_path: Path):
    needs_gxx()
    source = (
        '#include "testlib.h"\n'
        "int main(int n, char **a) { registerTestlibCmd(n, a);\n"
        'int sum = ouf.readInt(); if (sum != ans.readInt()) quitf(_wa, "sum %d", sum);\n'
        'quitf(_ok, "fine"); }\n'
    )
    with running_judge() as one:
        tests = checked(tmp_path, source=source)
        for code, status in (
            ("print(6)", "accepted"),
            ("print(7)", "wrong_answer"),
            ("print('six')", "wrong_answer"),
            ("", "wrong_answer"),
            ("print(6, 6)", "wrong_answer"),
        ):
            assert (await one.judge(code, tests)).status == status


async def test_without_a_compiler_the_message_says_what_to_install(
    judge: ProcessJudge, monkeypatch: pytest.MonkeyPatch
):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "g++" else which(name))
    compiler_version.cache_clear()
    try:
        assert "g++" not in judge.version
        with pytest.raises(ConfigError, match="apt-get install g"):
            await judge.judge(SUM, program_tests(("1 2", "3"), language="cpp"))
    finally:
        compiler_version.cache_clear()
