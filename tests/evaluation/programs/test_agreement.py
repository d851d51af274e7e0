"""scripts/judge-agreement on rows of our own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tessy.core.errors import InputError
from tessy.evaluation.programs import agreement
from tessy.evaluation.programs.agreement import KnownVerdict, method_of_solution
from tests.support.paths import ROOT
from tests.support.sandboxes import MARKER, backend, processes_with

SUM = "print(sum(map(int, input().split())))"
ROWS = [
    {"question_id": "sum", "code": SUM, "verdict": True},
    {"question_id": "wrong", "code": "print(3)", "verdict": False},
    {
        "question_id": "method",
        "fn_name": "add",
        "code": "class Solution:\n    def add(self, a: int, b: int) -> int: return a + b",
        "inputs": ["1\n2", "4\n5"],
        "verdict": True,
        "difficulty": "easy",
    },
    {"question_id": "disputed", "code": "print(3)", "verdict": True},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    common = {"fn_name": None, "inputs": ["1 2", "4 5"], "outputs": ["3", "9"]}
    path.write_text("".join(json.dumps({**common, **row}) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def sandbox() -> None:
    backend("bubblewrap")


def test_the_script_prints_agreement_and_differences(tmp_path: Path):
    file = write(tmp_path / "rows.jsonl", ROWS)
    script = ROOT / "scripts" / "judge-agreement"
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [script, file], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    version, share, differing = done.stdout.splitlines()
    assert version.startswith("process 1 (")
    assert share == "agreement 75.0 % (95 %: 30.1 %–95.4 %), n = 4"
    detail = "(line 1: '3' instead of '9')"
    assert differing == f"  disputed: wrong_answer at test 1 {detail}, not accepted"


def test_the_least_agreement_decides_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = write(tmp_path / "rows.jsonl", ROWS)
    assert agreement.main([str(file), "--least", "0.75", "--workers", "2"]) == 0
    assert agreement.main([str(write(file, ROWS[:3]))]) == 0
    assert "agreement 100.0 %" in capsys.readouterr().out


def test_programs_that_cannot_be_judged_are_counted_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = {**ROWS[2], "outputs": ["no JSON", "9"], "verdict": False}
    file = write(tmp_path / "rows.jsonl", [*ROWS, broken])
    # 3 of 4 agree, and 4 of 5 are judged.
    assert agreement.main([str(file), "--least", "0.75"]) == 0
    _, share, disputed, number, error = capsys.readouterr().out.splitlines()
    assert share == "agreement 75.0 % (95 %: 30.1 %–95.4 %), n = 4"
    assert disputed.startswith("  disputed: wrong_answer")
    assert number == "not judged: 1 of 5"
    assert error.startswith("  method: judge_error at test 0 (")
    assert error.endswith(")")


def test_a_judge_that_judges_too_few_programs_does_not_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = {**ROWS[2], "outputs": ["no JSON", "9"]}
    file = write(tmp_path / "rows.jsonl", [ROWS[0], broken])
    assert agreement.main([str(file)]) == 1
    assert "agreement 100.0 %" in capsys.readouterr().out
    assert agreement.main([str(file), "--least", "0.5"]) == 0
    capsys.readouterr()
    assert agreement.main([str(write(file, [broken])), "--least", "0"]) == 1
    assert "agreement unknown, n = 0\nnot judged: 1 of 1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": "x", "code": "", "verdict": True, "outputs": ["1"]}, "2 inputs, but 1"),
        ({"question_id": "x", "code": "", "verdict": True, "inputs": []}, "inputs"),
        ({"question_id": "x", "code": "", "verdict": "perhaps"}, "verdict"),
    ],
)
def test_an_invalid_row_is_named(
    tmp_path: Path, row: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
):
    file = write(tmp_path / "rows.jsonl", [ROWS[0], row])
    assert agreement.main([str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}:2" in error
    assert message in error


@pytest.mark.parametrize("content", [None, ""])
def test_a_file_without_rows_is_refused(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "rows.jsonl"
    if content is not None:
        file.write_text(content)
    assert agreement.main([str(file)]) == 2
    assert str(file) in capsys.readouterr().err


def test_ctrl_c_kills_the_programs(tmp_path: Path):
    code = f"import os\nos.execv('/bin/sleep', ['sleep', '{MARKER}'])"
    file = write(tmp_path / "rows.jsonl", [{**ROWS[0], "code": code}])
    argv = [sys.executable, "-m", "tessy.evaluation.programs.agreement", str(file)]
    argv += ["--seconds", "600"]
    script = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not processes_with(MARKER):
        assert script.poll() is None
    script.send_signal(signal.SIGINT)
    assert script.communicate()[1] == ""
    assert script.returncode == 130
    assert processes_with(MARKER) == []


SOLUTION = "class Solution:\n    def _x(self, a, b): ...\n    def add(self, a, b): return a + b\n"


@pytest.mark.parametrize(
    ("code", "arguments", "name"),
    [
        (SOLUTION, 2, "add"),
        (SOLUTION, 1, None),
        ("print(int(input()) + 1)", 1, None),
        ("class Solution:\n    def a(self, x): ...\n    def b(self, x, y): ...\n", 1, "a"),
        ("def solution(:", 1, None),
    ],
)
def test_the_method_to_call_is_found_in_the_program(code, arguments, name):
    assert method_of_solution(code, arguments) == name


def test_a_row_without_the_name_of_a_method_is_judged_by_its_program():
    row = {"question_id": "a", "code": SOLUTION, "inputs": ["1\n2"], "outputs": ["3"], "verdict": 1}
    assert KnownVerdict.model_validate(row).function == "add"
    assert KnownVerdict.model_validate(row | {"fn_name": None}).function is None


@pytest.mark.parametrize(
    ("line", "message"),
    [("{nope", r"rows\.jsonl:2: \(row\): Invalid JSON"), ("{}", r"rows\.jsonl:2: question_id: ")],
)
def test_a_malformed_row_is_refused_with_its_line(tmp_path, line, message):
    row = {"question_id": "a", "code": "", "inputs": [""], "outputs": [""], "verdict": True}
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(row)}\n{line}\n", "utf-8")
    with pytest.raises(InputError, match=message):
        agreement.read_known_verdicts(file)
