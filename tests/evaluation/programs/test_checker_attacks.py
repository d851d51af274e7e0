"""Programs that try to be accepted without solving the problem."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tessy.evaluation.programs.judge import ProcessJudge
from tests.support.sandboxes import program_tests, running_judge

SECRET = 74_565_123  # the expected result; a program that writes it has found it


@pytest.fixture(scope="module")
def judge() -> Iterator[ProcessJudge]:
    with running_judge() as one:
        yield one


EQUAL = """
class Equal(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
"""
SEARCH = f"""
import gc, sys
def looks(value, depth=0):
    if type(value) is int: return value == {SECRET - 1} + 1
    if isinstance(value, str): return str({SECRET - 1} + 1) in value
    values = list(value.values()) if isinstance(value, dict) else value
    nested = depth < 3 and isinstance(values, (list, tuple))
    return nested and any([looks(one, depth + 1) for one in values])
def everywhere():
    frame = sys._getframe()
    spaces = []
    while frame:
        spaces += [dict(frame.f_locals), dict(frame.f_globals)]
        frame = frame.f_back
    found = any(map(looks, spaces)) or any(map(looks, gc.get_objects()))
    return {SECRET - 1} + 1 if found else 1
"""
FILES = f"""
import os
def everywhere():
    for folder in (".", "/box", "/tmp", "/dev/shm", "/proc/self/fd", os.environ["TMPDIR"]):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            try:
                data = open(os.path.join(folder, name)).read(100_000)
            except (OSError, UnicodeDecodeError):
                continue
            if str({SECRET - 1} + 1) in data: return {SECRET - 1} + 1
    return 1
"""
SOLVE = "\nclass Solution:\n    def solve(self, x):\n        "
FUNCTIONAL = {
    "equal to everything": EQUAL + SOLVE + "return Equal(1)",
    "equal inside a list": EQUAL + SOLVE + "return [Equal(1)]",
    "replaces json": "import json\njson.dumps = lambda *a, **k: 'true'" + SOLVE + "return 1",
    "replaces the encoder": (
        "import json\njson.JSONEncoder.encode = lambda *a: 'true'" + SOLVE + "return 1"
    ),
    "replaces print and stdout": (
        "import builtins, sys\nbuiltins.print = sys.stdout = None" + SOLVE + "return 1"
    ),
    "replaces exits": (
        "import os, sys\nsys.exit = os._exit = lambda *a: None" + SOLVE + "return 1"
    ),
    "writes at exit": (f"import atexit\natexit.register(print, {SECRET - 1})" + SOLVE + "return 1"),
    "leaves without a result": "import os" + SOLVE + "os._exit(0)",
    "leaves while it is loaded": "import os\nos._exit(0)" + SOLVE + "return 1",
    "searches frames and objects": SEARCH + SOLVE + "return everywhere()",
    "searches files": FILES + SOLVE + "return everywhere()",
    "finds the nonce and writes two results": (
        "import os, sys\nnonce = sys._getframe(1).f_locals['nonce']\n"
        f"os.write(1, f'\\n{{nonce}} result {SECRET}\\n'.encode())" + SOLVE + "return 1"
    ),
    "finds the nonce and replaces write": (
        "import os, sys\nframe = sys._getframe(1)\nos.write = lambda *a: 0" + SOLVE + "return 1"
    ),
    "claims to be a result": SOLVE + f"print('result {SECRET}')\n        return 1",
    "raises an error that looks like the judge's": (
        SOLVE + "raise SystemExit('bwrap: execvp python3: No such file or directory')"
    ),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
async def test_a_function_does_not_cheat(judge: ProcessJudge, name: str):
    tests = program_tests(("7", str(SECRET)), kind="functional", function="solve")
    verdict = await judge.judge(FUNCTIONAL[name], tests)
    assert verdict.status in ("wrong_answer", "runtime_error"), verdict


STDIN = {
    "searches frames and objects": SEARCH + "print(everywhere())",
    "searches files": FILES + "print(everywhere())",
    "leaves before its output": "import os\nos._exit(0)",
    "claims success": "print('accepted')",
    "output that is equal to everything": "print(float('nan'), float('inf'))",
}


@pytest.mark.parametrize("name", STDIN)
async def test_a_program_does_not_cheat(judge: ProcessJudge, name: str):
    verdict = await judge.judge(STDIN[name], program_tests(("7", str(SECRET))))
    assert verdict.status == "wrong_answer", verdict


@pytest.mark.parametrize("code", [SEARCH + "print(everywhere())", FILES + "print(everywhere())"])
async def test_the_searches_find_what_is_there(judge: ProcessJudge, code: str):
    number = f"int('{SECRET - 1}') + 1"
    planted = f"planted = {number}\nopen('/tmp/planted', 'w').write(str({number}))\n"
    verdict = await judge.judge(planted + code, program_tests(("7", str(SECRET))))
    assert verdict.status == "accepted", verdict


async def test_a_constant_passes_no_hidden_test(judge: ProcessJudge):
    tests = program_tests(("1", "2"), ("2", "4"))
    verdict = await judge.judge("print(2)", tests)
    assert (verdict.status, verdict.test) == ("wrong_answer", 1)
