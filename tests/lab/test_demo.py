"""``tessy demo`` and ``tessy synthesize`` with the bundled models."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tessy.cli import main
from tessy.core.records import AUTHORS
from tessy.lab.bundled import demo_problems, predictor_path, student_path, teacher_path
from tessy.lab.leak import BY_RULE
from tessy.storage.journal import Journal
from tessy.storage.run_paths import RunPaths
from tests.support.run_data import read_run

TESSY = str(Path(sys.executable).with_name("tessy"))
WAIT_SECONDS = 100
COUNT = 8
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny models are not faster with more


def demo(out: Path, *more: str) -> list[str]:
    return [TESSY, "demo", "--out", str(out), "--count", str(COUNT), *more]


def finish(command: list[str], code: int = 0) -> str:
    """Run ``command`` in this process, which has loaded torch already; return its output."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        ended = main(command[1:])
    assert ended == code, output.getvalue()
    return output.getvalue()


def wait_for_rows(run: Path, rows: int, process: subprocess.Popen[Any]) -> None:
    path = run / "trajectories.jsonl"
    deadline = time.monotonic() + WAIT_SECONDS
    while not path.exists() or path.read_bytes().count(b"\n") < rows:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def interrupt(command: list[str], run: Path, rows: int, number: signal.Signals) -> str:
    """Run ``command`` and send it a signal after ``rows`` samples; return its output."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    wait_for_rows(run, rows, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), output
    return output


def content(run: Path) -> dict[str, object]:
    """Return rows by id, without times and counts that depend on the load."""
    data = read_run(run)
    rows = (*data.trajectories, *data.failures)
    load: Any = {"seconds": True, "cost": True, "tokens": {"drafted"}}
    return {row.id: row.model_dump(mode="json", exclude=load) for row in rows}


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed demo."""
    run = tmp_path_factory.mktemp("demo") / "run"
    (run.parent / "output.txt").write_text(finish(demo(run)), encoding="utf-8")
    return run


def test_demo_generates_samples_prints_one_and_writes_the_report(completed: Path):
    output = (completed.parent / "output.txt").read_text(encoding="utf-8")
    assert "student" in output
    assert "So the answer is" in output
    assert str(completed / "report.html") in output.replace("\n", "")
    data = read_run(completed)
    assert len(data.trajectories) + len(data.failures) == COUNT
    assert len(data.trajectories) > COUNT // 2
    for author in ("student", "teacher"):
        assert any(span.author == author for row in data.trajectories for span in row.spans)
    summary = json.loads((completed / "summary.json").read_text(encoding="utf-8"))
    assert summary["samples"]["finished"] == len(data.trajectories)


def test_demo_uses_the_bundled_predictors_and_reports_the_leak(completed: Path):
    config = json.loads((completed / "config.json").read_text(encoding="utf-8"))["config"]
    for author in AUTHORS:
        assert config[author]["predictor"] == str(predictor_path(author))
    summary = json.loads((completed / "summary.json").read_text(encoding="utf-8"))
    found = summary["leak"]
    assert found["samples"] == summary["samples"]["finished"]
    assert found["style"]["words"] > 10 * COUNT // 2
    for kind in ("style", "capability"):
        assert found[kind]["share"] < 0.1
        assert found[kind]["wrong"] <= found[kind]["words"] * 0.1
    output = (completed.parent / "output.txt").read_text(encoding="utf-8").replace("\n", " ")
    assert "the teacher wrote {wrong} of {words} style words".format(**found["style"]) in output
    assert found["judged"] == BY_RULE
    assert BY_RULE in output


def test_demo_can_use_the_lexicon(tmp_path: Path):
    run = tmp_path / "run"
    output = finish(demo(run, "--count", "3", "--predictor", "lexicon"))
    assert "the student 0 of" in output.replace("\n", " ")  # the lexicon contains these phrases
    other = finish(demo(run, "--count", "3"), code=2)
    assert "predictor" in other
    assert "--fresh" in other


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_resumes_to_the_same_rows(completed: Path, tmp_path: Path, number):
    run = tmp_path / "run"
    output = interrupt(demo(run), run, 2, number)
    assert ("The same command resumes it." in output) == (number == signal.SIGINT)
    before = (run / "trajectories.jsonl").read_bytes()
    assert 2 <= before.count(b"\n") < COUNT
    with Journal(RunPaths(run).journal) as journal:
        left = journal.load()
    assert left  # samples in flight were kept
    finish(demo(run))
    assert (run / "trajectories.jsonl").read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    # The local engine is deterministic, so samples in flight continue with the same words.
    assert content(run) == content(completed)


def test_another_seed_needs_fresh_which_keeps_the_old_rows(completed: Path, tmp_path: Path):
    run = tmp_path / "run"
    finish(demo(run, "--count", "2"))
    rows = (run / "trajectories.jsonl").read_bytes()
    output = finish(demo(run, "--count", "2", "--seed", "5"), code=2)
    assert "seed" in output
    assert "--fresh" in output
    finish(demo(run, "--count", "2", "--seed", "5", "--fresh"))
    assert (tmp_path / "run.old-1" / "trajectories.jsonl").read_bytes() == rows


def test_a_second_process_on_the_same_run_is_refused(tmp_path: Path):
    run = tmp_path / "run"
    command = demo(run, "--count", "500")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    try:
        wait_for_rows(run, 1, process)
        assert str(process.pid) in finish(command, code=2)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def write_problems(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def synthesize(problems: Path, run: Path, *more: str) -> list[str]:
    return [
        TESSY, "synthesize", "--problems", str(problems), "--out", str(run),
        "--student.model", str(student_path()), "--teacher.model", str(teacher_path()),
        "--thinking-tokens", "400", "--answer-tokens", "32", *more,
    ]  # fmt: skip


def test_bad_rows_abort_a_run_unless_they_are_skipped(tmp_path: Path):
    good = [{"prompt": p.messages[0].content, "n": 1} for p in demo_problems(2, 3)]
    problems = write_problems(tmp_path / "q.jsonl", [good[0], {"prompt": 7}, good[1]])
    run = tmp_path / "run"
    output = finish(synthesize(problems, run), code=2)
    assert f"{problems}:2: prompt" in output
    assert not run.exists()
    finish(synthesize(problems, run, "--skip-bad-rows"))
    data = read_run(run)
    assert len(data.trajectories) + len(data.failures) == 2
    assert {row.problem["n"] for row in (*data.trajectories, *data.failures)} == {1}
    (bad,) = (run / "bad_rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(bad)["line"] == 2


def test_failed_samples_are_retried_only_with_retry_failed(tmp_path: Path):
    question = {"id": "a", "prompt": demo_problems(1, 3)[0].messages[0].content}
    problems = write_problems(tmp_path / "q.jsonl", [question])
    run = tmp_path / "run"
    # No thinking has only 12 tokens.
    command = synthesize(problems, run, "--thinking-tokens", "12")
    output = finish(command, code=1)
    assert "None of 1 samples could be finished (budget exceeded 1)" in output
    assert "The last one (budget exceeded): the thinking reached 12 tokens" in output
    finish(command, code=1)
    failures = (run / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["reason"] for line in failures] == ["budget"]
    finish([*command, "--retry-failed"], code=1)
    again = (run / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["attempts"] for line in again] == [1, 2]


def test_a_failed_start_does_not_fix_the_options_of_the_run(tmp_path: Path):
    question = {"id": "a", "prompt": demo_problems(1, 3)[0].messages[0].content}
    problems = write_problems(tmp_path / "q.jsonl", [question])
    run = tmp_path / "run"
    command = synthesize(problems, run)
    gone = "http://127.0.0.1:9"  # a port without a server
    dead = ["--student.url", gone, "--server-patience-seconds", "1"]
    assert gone in finish([*command, *dead], code=3)
    assert "127.0.0.1:9" in finish([*command, "--student.url", "127.0.0.1:9"], code=2)
    finish([*command, "--cut", "extend"])
    assert len(read_run(run).trajectories) + len(read_run(run).failures) == 1


def test_doctor_checks_models_in_this_process(tmp_path: Path):
    rows: list[object] = [{"prompt": demo_problems(1, 3)[0].messages[0].content}]
    problems = write_problems(tmp_path / "q.jsonl", rows)
    command = synthesize(problems, tmp_path / "run")
    output = finish([TESSY, "doctor", *command[2:]])
    assert "Everything a run needs is in place" in output
    assert "<|im_start|>assistant" in output
    assert not (tmp_path / "run").exists()


def test_the_result_of_doctor_includes_a_failed_sample(tmp_path: Path):
    rows: list[object] = [{"prompt": demo_problems(1, 3)[0].messages[0].content}]
    problems = write_problems(tmp_path / "q.jsonl", rows)
    command = synthesize(problems, tmp_path / "run", "--thinking-tokens", "12")
    verdict = finish([TESSY, "doctor", *command[2:]]).partition("Result")[2]
    assert "the sample failed: budget: the thinking reached 12 tokens" in verdict
    assert "Everything a run needs is in place" not in verdict


def test_swapped_predictors_cause_a_warning(tmp_path: Path):
    problems = write_problems(
        tmp_path / "q.jsonl", [{"prompt": demo_problems(1, 3)[0].messages[0].content}]
    )
    student, teacher = (str(predictor_path(author)) for author in ("student", "teacher"))
    for run, first, second in (("right", student, teacher), ("swapped", teacher, student)):
        output = finish(
            synthesize(
                problems, tmp_path / run,
                "--student.predictor", first, "--teacher.predictor", second,
            )
        )  # fmt: skip
        assert ("were the two swapped?" in output) == (run == "swapped")
