"""`tessy evaluate` with the real judge: programs in Python and C++ in a sandbox."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tessy.storage.run_reader import EVALUATIONS, iter_rows
from tests.evaluation import test_lcb_pro as pro
from tests.evaluation.test_command import scores, served
from tests.lab.test_demo import finish
from tests.support.benchmarks import sized
from tests.support.evaluated_model import Reply, serve
from tests.support.livecodebench import case, packed, problem, write
from tests.support.sandboxes import backend, needs_gxx

ADD: dict[str, Any] = {
    "starter_code": "class Solution:\n    def add(self, a, b):\n        ",
    "metadata": json.dumps({"func_name": "add"}),
    "public_test_cases": json.dumps([case("1\n2", "3", "functional")]),
    "private_test_cases": packed([case("20\n22", "42", "functional")]),
}
SUM: dict[str, Any] = {"private_test_cases": packed([case("20 22", "42")])}
PROGRAMS = {
    "right": "print(sum(map(int, input().split())))",
    "sample": "print(3)",
    "crash": "1 / 0",
    "method": "class Solution:\n    def add(self, a, b):\n        return a + b",
}


def named(asked: str) -> str:
    return asked.partition("numbers (")[2].partition(")")[0]


async def test_livecodebench(tmp_path: Path, monkeypatch):
    backend("bubblewrap")
    sized(monkeypatch, "lcb-v5", len(PROGRAMS))
    rows = [problem(name, **(ADD if name == "method" else SUM)) for name in PROGRAMS]
    file, run = write(tmp_path / "test5.jsonl", *rows), tmp_path / "run"
    async with serve(lambda asked: Reply(f"```python\n{PROGRAMS[named(asked)]}\n```")) as server:
        options = ("--data", str(file), "--answer-tokens", "200", "--judge-workers", "1")
        await asyncio.to_thread(finish, served(server, "lcb-v5", run, *options))
    found = {row.id: (row.outcome, row.rule, row.detail) for row in iter_rows(run, EVALUATIONS)}
    assert found == {
        "right": ("correct", "accepted", ""),
        "sample": ("wrong", "wrong_answer", "test 1"),
        "crash": ("wrong", "runtime_error", "test 0"),
        "method": ("correct", "accepted", ""),
    }
    assert "bubblewrap" in scores(run)["judge"]
    assert scores(run)["sandbox"]


CHECKER = """
#include <fstream>
#include <string>
int main(int, char** files) {
  std::ifstream output(files[2]), answer(files[3]);
  std::string first, second;
  output >> first;
  answer >> second;
  return first == second ? 0 : 1;
}
"""


async def test_lcb_pro(tmp_path: Path, monkeypatch):
    backend("bubblewrap")
    needs_gxx()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sized(monkeypatch, "lcb-pro", 2)
    tests = {f"testdata/{n}.in": f"{n}\n" for n in (1, 2, 3)}
    tests |= {f"testdata/{n}.ans": f"{2 * n}\n" for n in (1, 2, 3)}
    for name in "AB":
        pro.archive(tmp_path / f"{name}.zip", {"checker.cpp": CHECKER, **tests})
    file, run = write(tmp_path / "q.jsonl", *map(pro.problem, "AB")), tmp_path / "run"

    def reply(asked: str) -> Reply:
        twice = "n + n" if asked.endswith("A.") else "n + 1"
        code = f"#include <iostream>\nint main() {{ int n; std::cin >> n; std::cout << {twice}; }}"
        return Reply(f"```cpp\n{code}\n```")

    async with serve(reply) as server:
        options = ("--data", str(file), "--answer-tokens", "200", "--judge-workers", "1")
        await asyncio.to_thread(finish, served(server, "lcb-pro", run, *options))
    found = {row.id: (row.outcome, row.detail) for row in iter_rows(run, EVALUATIONS)}
    assert found == {"A": ("correct", ""), "B": ("wrong", "test 1")}


async def test_the_python_of_programs_can_be_selected(tmp_path: Path, monkeypatch):
    backend("bubblewrap")
    sized(monkeypatch, "lcb-v5", 1)
    file, run = write(tmp_path / "test5.jsonl", problem("right", **SUM)), tmp_path / "run"
    async with serve(lambda asked: Reply(f"```python\n{PROGRAMS['right']}\n```")) as server:
        options = ("--data", str(file), "--answer-tokens", "200", "--judge-python")
        command = served(server, "lcb-v5", run, *options)
        output = await asyncio.to_thread(finish, [*command, str(tmp_path / "python")], 2)
        assert f"{tmp_path / 'python'} is not a working Python" in output
        assert not (run / "evaluations.jsonl").exists()
        await asyncio.to_thread(finish, [*command, "/usr/bin/python3"])
    assert "/usr/bin/python3" in scores(run)["sandbox"]["python"]
