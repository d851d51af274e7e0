"""Problems of LiveCodeBench-Pro and the archives with their tests."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tessy.core.errors import BadRowsError, InputError
from tessy.evaluation.load import load_benchmark
from tessy.evaluation.programs.base import ProgramTest
from tessy.evaluation.sources import problem_archive
from tessy.storage.run_reader import EVALUATIONS, iter_rows
from tests.evaluation.test_command import served
from tests.evaluation.test_load import options
from tests.lab.test_demo import TESSY, finish
from tests.support.benchmarks import sized
from tests.support.evaluated_model import Reply, serve
from tests.support.livecodebench import write
from tests.support.model_server import FakeServer
from tests.support.program_judge import FakeProgramJudge, install

CONFIG = """
type: default
time_limit: 1500ms
memory_limit: 256m
checker: checker.cpp
input_suffix: .in
output_suffix: .ans
subtasks:
- score: 40
  n_cases: 1
- score: 60
  n_cases: 2
"""
CHECKER = '#include "testlib.h"\nint main(int argc, char* argv[]) {}\n'
FILES = {
    "config.yaml": CONFIG,
    "checker.cpp": CHECKER,
    **{f"testdata/{n}.{end}": f"{end} {n}\n" for n in (1, 2, 3) for end in ("in", "ans")},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def archive(path: Path, changed: Mapping[str, str] | None = None) -> Path:
    return write_archive(path, {**FILES, **(changed or {})})


def write_archive(path: Path, files: Mapping[str, str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def problem(name: str, **more: Any) -> dict[str, Any]:
    return {
        "problem_id": name, "problem_title": f"T {name}", "difficulty": "hard",
        "problem_statement": f"Print {name}.", "platform": "codeforces", "link": "x", **more,
    }  # fmt: skip


def test_quarters_are_joined_and_problems_without_archive_left_out(
    tmp_path: Path, monkeypatch, cache: Path
):
    folder = tmp_path / "pro"
    (folder / "data").mkdir(parents=True)
    for quarter, names in (("2024_10_12", "A B X"), ("2025_1_3", "B C D")):
        table = pa.Table.from_pylist([problem(name) for name in names.split()])
        pq.write_table(table, folder / "data" / f"quater_{quarter}-00000-of-00001.parquet")
    for name in "ABC":
        archive(folder / "tests" / f"{name}.zip")
    interactive = CONFIG.replace("default", "interactive")
    archive(folder / "tests" / "D.zip", {"config.yaml": interactive})
    sized(monkeypatch, "lcb-pro", 4)
    found = load_benchmark(options("lcb-pro", data=folder))
    asked = {problem.id: problem.messages[0].content for problem in found.loaded.problems}
    assert list(asked) == ["A", "B", "C", "D"]
    assert asked["A"] == (
        "You are a competitive programmer. You will be given a problem statement, please implement "
        "solution in C++. The execution time and memory limit are also stated in the statement so "
        "be aware of the complexity of the program. Please wrap the code in ```cpp and ``` so that "
        "it is properly formatted.\n\nPrint A."
    )
    tests = found.judged["A"].tests
    assert tests is not None
    assert (tests.kind, tests.language, tests.seconds, tests.memory_mib) == (
        "checker", "cpp", 1.5, 256,
    )  # fmt: skip
    assert list(tests.load()) == [ProgramTest(f"in {n}\n", f"ans {n}\n") for n in (1, 2, 3)]
    assert tests.checker is not None
    assert tests.checker.read_text("utf-8") == CHECKER
    assert tests.checker.is_relative_to(cache)
    assert found.judged["D"].tests is None
    assert found.judges("fake") == "official 1 (LightCPVerifier), testlib 1 (fake)"


def test_prompts_of_opencompass_are_asked_as_they_are(tmp_path: Path, monkeypatch):
    rows = [{"id_ddm": name, "dialogs": [{"content": f"  Solve {name}.\n"}]} for name in "AB"]
    file = write(tmp_path / "lcb_pro_706.jsonl", *rows)
    sized(monkeypatch, "lcb-pro", 2)
    found = load_benchmark(options("lcb-pro", data=file))
    assert [p.messages[0].content for p in found.loaded.problems] == [
        "  Solve A.\n", "  Solve B.\n",
    ]  # fmt: skip
    # Without archives, the official judge decides.
    assert not any(one.tests for one in found.judged.values())
    archive(tmp_path / "A.zip")
    with pytest.raises(InputError, match=r"has 1 problems, but lcb-pro has 2"):
        load_benchmark(options("lcb-pro", data=file))
    archive(tmp_path / "B.zip")
    found = load_benchmark(options("lcb-pro", data=file))
    assert all(one.tests for one in found.judged.values())
    bad = write(tmp_path / "bad.jsonl", rows[0], {"id_ddm": "B", "dialogs": []})
    with pytest.raises(BadRowsError, match=r"bad.jsonl:2: dialogs: expected a list with one turn"):
        load_benchmark(options("lcb-pro", data=bad))


CASES = (
    "\nsubtasks:\n- cases:\n  - {input: 2.in, output: 2.out}\n  - {input: 1.in, output: 1.ans}\n"
)


def test_listed_cases_are_read_in_their_order(tmp_path: Path):
    config = CONFIG.partition("\nsubtasks")[0] + CASES
    found = problem_archive.open_archive(archive(tmp_path / "A.zip", {"config.yaml": config}))
    assert found.cases == (("testdata/2.in", "testdata/2.ans"), ("testdata/1.in", "testdata/1.ans"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"../outside": "x"}, "holds a file outside of its folder: '../outside'"),
        ({"/etc/outside": "x"}, "holds a file outside of its folder"),
        ({"a\\..\\outside": "x"}, "holds a file outside of its folder"),
        ({"testdata/9.in": " " * (3 << 20)}, "testdata/9.in expands to 3,145,728 bytes"),
        ({"config.yaml": "type: leetcode"}, "expected default or interactive, got 'leetcode'"),
        ({"config.yaml": "["}, "config.yaml is not YAML"),
        ({"config.yaml": "!!python/object/apply:os.getcwd []"}, "config.yaml is not YAML"),
        ({"config.yaml": "7"}, "config.yaml is not a mapping"),
        ({"config.yaml": CONFIG.replace("n_cases: 2", "n_cases: 3")}, "lacks the file 'testdata/4"),
        ({"config.yaml": CONFIG.replace("n_cases", "cases")}, "expected n_cases or cases"),
        ({"config.yaml": CONFIG.partition("subtasks")[0]}, "subtasks: expected a list"),
        ({"config.yaml": f"{CONFIG.partition('subtasks')[0]}subtasks: []"}, "has no tests"),
        ({"config.yaml": CONFIG.replace("1500ms", "soon")}, "time_limit: expected a time"),
        ({"config.yaml": CONFIG.replace("256m", "much")}, "memory_limit: expected a size"),
        ({"config.yaml": CONFIG.replace("checker.cpp", "../x")}, "there is no file '../x'"),
    ],
)
def test_unusable_archives_are_refused(tmp_path: Path, monkeypatch, changed, message):
    monkeypatch.setattr(problem_archive, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    monkeypatch.setattr(problem_archive, "_MAX_RATIO", 100)
    path = archive(tmp_path / "A.zip", changed)
    with pytest.raises(InputError, match=r"A.zip: ") as error:
        problem_archive.open_archive(path)
    assert message in str(error.value)
    file = write(tmp_path / "q.jsonl", problem("A"))
    with pytest.raises(BadRowsError, match=rf"q.jsonl:1: problem_id: {path}: "):
        load_benchmark(options("lcb-pro", data=file))


def test_files_that_are_no_archives_are_refused(tmp_path: Path):
    path = tmp_path / "A.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"A.zip: cannot be read"):
        problem_archive.open_archive(path)
    write_archive(path, {name: text for name, text in FILES.items() if name != "config.yaml"})
    with pytest.raises(InputError, match=r"A.zip: has no config.yaml"):
        problem_archive.open_archive(path)


def test_an_archive_that_is_lost_during_the_run_is_an_error(tmp_path: Path):
    path = archive(tmp_path / "A.zip")
    tests = problem_archive.open_archive(path).tests()
    path.unlink()
    with pytest.raises(InputError, match=r"A.zip: cannot be read any more"):
        tests.load()


def test_the_whole_of_an_archive_is_bounded(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(problem_archive, "_MAX_BYTES", 100)
    with pytest.raises(InputError, match="at most 100 are read"):
        problem_archive.open_archive(archive(tmp_path / "A.zip"))


def test_the_digest_depends_on_every_file(tmp_path: Path):
    one = problem_archive.open_archive(archive(tmp_path / "A.zip")).digest
    two = problem_archive.open_archive(archive(tmp_path / "B.zip", {"testdata/3.in": "4\n"}))
    assert one != two.digest
    assert json.dumps(one)


def cpp(name: str) -> str:
    return f"```cpp\n#include <x>\nint main() {{}} // {name}\n```"


async def evaluate(tmp_path: Path, code: int = 0) -> tuple[str, FakeServer]:
    archive(tmp_path / "A.zip")
    archive(tmp_path / "B.zip", {"config.yaml": CONFIG.replace("default", "interactive")})
    archive(tmp_path / "C.zip")
    file = write(tmp_path / "q.jsonl", *map(problem, "ABC"))

    def reply(asked: str) -> Reply:
        name = asked.rpartition("Print ")[2]
        return Reply("None." if name == "C." else cpp("accepted"))

    async with serve(reply) as server:
        options = ("--data", str(file), "--answer-tokens", "200")
        command = served(server, "lcb-pro", tmp_path / "run", *options)
        return await asyncio.to_thread(finish, command, code), server


async def test_problems_with_checker_are_judged_and_interactive_ones_wait(
    tmp_path: Path, monkeypatch
):
    judge = FakeProgramJudge()
    install(monkeypatch, judge)
    sized(monkeypatch, "lcb-pro", 3)
    output, _ = await evaluate(tmp_path)
    assert "1 response without a verdict of the official judge" in output
    found = {r.id: (r.outcome, r.judge) for r in iter_rows(tmp_path / "run", EVALUATIONS)}
    assert found == {
        "A": ("correct", "testlib 1 (fake 7)"),
        "B": ("unjudged", "official 1 (LightCPVerifier)"),
        "C": ("no_answer", "testlib 1 (fake 7)"),
    }
    # A program is judged before anything is generated, because a checker has to be compiled.
    assert [code for code, _ in judge.judged] == [
        "int main() {}\n", "#include <x>\nint main() {} // accepted",
    ]  # fmt: skip
    result = json.loads((tmp_path / "run" / "scores.json").read_text("utf-8"))
    assert (result["pass@1"]["value"], result["problems"]) == (0.5, 2)
    assert result["sandbox"] == {"name": "fake 7"}
    results = tmp_path / "results.json"
    command = [TESSY, "judge", str(tmp_path / "run")]
    await asyncio.to_thread(finish, [*command, "--export", str(results)])
    text = results.read_text("utf-8").replace('"Judging"', '"Accepted"')
    results.write_text(text, "utf-8")
    await asyncio.to_thread(finish, [*command, "--verdicts", str(results)])
    after = json.loads((tmp_path / "run" / "scores.json").read_text("utf-8"))
    assert (after["pass@1"]["value"], after["problems"]) == (pytest.approx(2 / 3), 3)
    assert (after["sandbox"], after["benchmark"]) == (result["sandbox"], result["benchmark"])


async def test_a_missing_compiler_is_found_before_anything_is_generated(
    tmp_path: Path, monkeypatch
):
    judge = FakeProgramJudge(unusable=InputError("there is no g++"))
    install(monkeypatch, judge)
    sized(monkeypatch, "lcb-pro", 3)
    output, server = await evaluate(tmp_path, 2)
    assert "there is no g++" in output
    assert server.seen == []
    assert judge.closed == 1
