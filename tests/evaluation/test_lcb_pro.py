"""Problems of LiveCodeBench-Pro and the archives with their tests."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tessy.core.errors import BadRowsError, InputError
from tessy.evaluation.load import LoadedBenchmark, load_benchmark
from tessy.evaluation.programs.base import ProgramTest, ProgramTests
from tessy.evaluation.programs.task import ProgramTask
from tessy.evaluation.sources import problem_archive
from tests.evaluation.test_load import options
from tests.support.benchmarks import sized
from tests.support.livecodebench import write

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


def archived_tests(found: LoadedBenchmark, name: str) -> ProgramTests | None:
    task = found.judged[name].judge
    assert isinstance(task, ProgramTask)
    return task.tests


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
    tests = archived_tests(found, "A")
    assert tests is not None
    assert (tests.kind, tests.language, tests.seconds, tests.memory_mib) == (
        "checker", "cpp", 1.5, 256,
    )  # fmt: skip
    assert list(tests.load()) == [ProgramTest(f"in {n}\n", f"ans {n}\n") for n in (1, 2, 3)]
    assert tests.checker is not None
    assert tests.checker.read_text("utf-8") == CHECKER
    assert tests.checker.is_relative_to(cache)
    assert archived_tests(found, "D") is None
    assert found.judges("fake") == "official 1 (LightCPVerifier), testlib 1 (fake)"


def test_prompts_of_opencompass_are_asked_as_they_are(tmp_path: Path, monkeypatch):
    rows = [{"id_ddm": name, "dialogs": [{"content": f"  Solve {name}.\n"}]} for name in "AB"]
    file = write(tmp_path / "lcb_pro_706.jsonl", *rows)
    sized(monkeypatch, "lcb-pro", 2)
    found = load_benchmark(options("lcb-pro", data=file))
    assert [p.messages[0].content for p in found.loaded.problems] == [
        "  Solve A.\n", "  Solve B.\n",
    ]  # fmt: skip
    assert not found.runs_programs  # without archives, the official judge decides
    archive(tmp_path / "A.zip")
    with pytest.raises(InputError, match=r"has 1 problems, but lcb-pro has 2"):
        load_benchmark(options("lcb-pro", data=file))
    archive(tmp_path / "B.zip")
    assert load_benchmark(options("lcb-pro", data=file)).runs_programs
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
        ({"config.yaml": "7"}, "config.yaml is no mapping"),
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
    monkeypatch.setattr(problem_archive, "_LEAST_BYTES", 1 << 20)
    monkeypatch.setattr(problem_archive, "_MOST_TIMES", 100)
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
    monkeypatch.setattr(problem_archive, "_MOST_BYTES", 100)
    with pytest.raises(InputError, match="at most 100 are read"):
        problem_archive.open_archive(archive(tmp_path / "A.zip"))


def test_the_digest_depends_on_every_file(tmp_path: Path):
    one = problem_archive.open_archive(archive(tmp_path / "A.zip")).digest
    two = problem_archive.open_archive(archive(tmp_path / "B.zip", {"testdata/3.in": "4\n"}))
    assert one != two.digest
    assert json.dumps(one)
