"""``tessy synthesize`` and ``tessy doctor`` as a user runs them, against real vLLM servers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tessy.core.records import Trajectory, unpack_ids
from tessy.lab.bundled import student_path, teacher_path
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.support.run_data import RunData, read_run
from tests.vllm.servers import Servers

pytestmark = pytest.mark.vllm

SHARED = Path(__file__).parents[3] / "shared" / "data"
TESSY = str(Path(sys.executable).with_name("tessy"))
WAIT_SECONDS = 200


def arguments(command: str, servers: Servers, problems: Path, *more: str) -> list[str]:
    teachers = f"{servers.teacher_a.url},{servers.teacher_b.url}"
    return [
        TESSY, command, "--problems", str(problems),
        "--student.model", "student", "--student.url", servers.student.url,
        "--student.tokenizer", str(student_path()),
        "--teacher.model", "teacher", "--teacher.url", teachers,
        "--teacher.tokenizer", str(teacher_path()),
        "--thinking-tokens", "600", "--answer-tokens", "64", *more,
    ]  # fmt: skip


def finish(command: list[str], code: int = 0) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def finish_what_is_too_hard(command: list[str], run: Path) -> None:
    """Run a command on problems that are too hard; the exit code shows whether all failed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    wanted = 0 if read_run(run).trajectories else 1
    assert done.returncode == wanted, done.stdout + done.stderr


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until_rows(run: Path, count: int, process: subprocess.Popen[str]) -> list[bytes]:
    """Wait until a run has ``count`` finished samples; return its lines."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        path = run / "trajectories.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if len(lines) >= count:
            return lines
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"no {count} rows after {WAIT_SECONDS} s")


def end(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    return output


def check_rows(data: RunData) -> None:
    """Check what holds for every row."""
    codec = load_renderer(student_path()).codec
    for row in data.trajectories:
        assert isinstance(row, Trajectory)
        assert row.messages[-1].content == f"<think>\n{row.thinking}\n</think>\n\n{row.answer}"
        assert row.student_ids is not None
        assert decode(codec, unpack_ids(row.student_ids.thinking)) == row.thinking
        assert decode(codec, unpack_ids(row.student_ids.answer)) == row.answer
        assert row.spans[0].author == "student"
    for failure in data.failures:
        assert failure.detail


def keys(data: RunData) -> list[str]:
    return sorted(row.id for row in (*data.trajectories, *data.failures))


def test_a_run_on_two_replicas_as_in_the_readme(servers: Servers, questions, tmp_path):
    run = tmp_path / "run"
    output = finish(
        arguments("synthesize", servers, questions(48), "--out", str(run), "--concurrency", "8")
    )
    data = read_run(run)
    check_rows(data)
    assert keys(data) == [f"calc-{n:04d}" for n in range(1, 49)]
    assert len(data.trajectories) >= 40
    assert any(len(row.spans) > 3 for row in data.trajectories)
    assert "finished" in output
    assert str(run / "report.html") in output
    assert (run / "report.html").exists()
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["samples"]["finished"] == len(data.trajectories)
    assert summary["requests"]["teacher"] > 48
    session = summary["session"]
    for author, counted in session["servers"].items():
        assert session["generated"][author] == summary["tokens"]["generated"][author]
        # The goal is 5 %; the last comparison of a short run may be a second old.
        assert session["generated"][author] == pytest.approx(counted, rel=0.08), session
    assert set(session["servers"]) == {"student", "teacher"}
    log = (run / "run.log").read_text(encoding="utf-8")
    assert "generate" in log
    assert "KV caches" in log


@pytest.mark.parametrize(
    ("name", "fields", "limit"),
    [("ojbench_prompts_5.jsonl", (), 5), ("gsm8k_test.jsonl", ("--fields", "prompt=question"), 12)],
)
def test_real_problems(servers: Servers, tmp_path, name, fields, limit):
    problems = SHARED / name
    if not problems.exists():
        pytest.skip(f"{name} is only in the project's own checkout")
    run = tmp_path / "run"
    more = ("--out", str(run), "--limit", str(limit), "--attempts", "2", *fields)
    finish_what_is_too_hard(arguments("synthesize", servers, problems, *more), run)
    data = read_run(run)
    check_rows(data)
    assert len(data.trajectories) + len(data.failures) == limit
    # Other fields of the input row are copied unchanged.
    row = (*data.trajectories, *data.failures)[0]
    assert ("difficulty" in row.problem) or ("answer" in row.problem)


def test_a_killed_run_is_resumed_by_the_same_command(servers: Servers, questions, tmp_path):
    run = tmp_path / "run"
    command = arguments(
        "synthesize", servers, questions(40), "--out", str(run), "--concurrency", "6"
    )
    process = start(command)
    until_rows(run, 6, process)
    process.send_signal(signal.SIGKILL)
    end(process)
    before = (run / "trajectories.jsonl").read_bytes()
    assert before.count(b"\n") < 40
    finish(command)
    after = (run / "trajectories.jsonl").read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert after.startswith(whole)  # nothing lost, nothing altered
    ids = [json.loads(line)["id"] for line in after.splitlines()]
    assert len(ids) == len(set(ids))
    data = read_run(run)
    check_rows(data)
    assert len(keys(data)) == 40
    # The number of samples may be increased; another budget would change the rows.
    assert "thinking_tokens" in finish([*command, "--thinking-tokens", "700"], code=2)
    finish([*command, "--limit", "5", "--samples-per-problem", "2"])
    assert {row.id for row in read_run(run).trajectories if row.sample == 1} <= {
        f"calc-{n:04d}" for n in range(1, 6)
    }


def test_ctrl_c_drains_a_run_and_its_samples_in_flight_are_resumed(servers, questions, tmp_path):
    run = tmp_path / "run"
    command = arguments(
        "synthesize", servers, questions(40), "--out", str(run), "--concurrency", "6"
    )
    process = start(command)
    until_rows(run, 4, process)
    process.send_signal(signal.SIGINT)
    output = end(process)
    assert process.returncode == 130, output
    assert "resumes it" in output
    assert len(read_run(run).trajectories) < 40
    finish(command)
    data = read_run(run)
    check_rows(data)
    assert len(keys(data)) == 40


def test_doctor_reports_what_the_servers_support(servers: Servers, questions):
    output = finish(arguments("doctor", servers, questions(1)))
    assert "Everything a run needs is in place" in output
    assert "prefix caching is on" in output
    assert "<|im_start|>assistant" in output
    assert "<|channel|>analysis<|message|>" in output


def test_doctor_explains_what_to_fix(servers: Servers, questions):
    command = arguments("doctor", servers, questions(1), "--student.model", "studnet")
    output = finish(command, code=3)
    assert "studnet" in output
    assert "student" in output


def test_no_ids_and_fixed_drafts_as_in_the_paper(servers: Servers, questions, tmp_path):
    run = tmp_path / "run"
    drafts = ("--student.draft-tokens", "20", "--teacher.draft-tokens", "20")
    finish(arguments("synthesize", servers, questions(6), "--out", str(run), "--no-ids", *drafts))
    data = read_run(run)
    assert len(keys(data)) == 6
    assert all(row.student_ids is None for row in data.trajectories)


def test_a_run_survives_servers_that_stop_or_restart(servers: Servers, questions, tmp_path):
    """One of two teachers stops, the only student restarts."""
    run = tmp_path / "run"
    command = arguments(
        "synthesize", servers, questions(40), "--out", str(run), "--concurrency", "6"
    )
    process = start(command)
    until_rows(run, 4, process)
    servers.teacher_b.kill()
    until_rows(run, 10, process)
    servers.student.restart()
    output = end(process)
    assert process.returncode == 0, output
    log = (run / "run.log").read_text(encoding="utf-8")
    assert f"teacher: {servers.teacher_b.url} failed" in log
    assert f"student: {servers.student.url} answers again" in log
    data = read_run(run)
    check_rows(data)
    assert len(keys(data)) == 40
    assert len(data.trajectories) >= 35
