"""``tessy sample`` as a user runs it, against real vLLM servers."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tessy.core.records import Author, unpack_ids
from tessy.lab.bundled import student_path, teacher_path
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.support.run_data import read_run
from tests.vllm.servers import Servers
from tests.vllm.test_synthesize_vllm import (
    SHARED,
    TESSY,
    end,
    finish,
    finish_what_is_too_hard,
    keys,
    start,
    until_rows,
)

pytestmark = pytest.mark.vllm

MODELS: dict[Author, Path] = {"student": student_path(), "teacher": teacher_path()}


def arguments(author: Author, servers: Servers, problems: Path, run: Path, *more: str) -> list[str]:
    replicas = {
        "student": (servers.student,),
        "teacher": (servers.teacher_a, servers.teacher_b),
    }[author]
    return [
        TESSY, "sample", "--author", author, "--problems", str(problems), "--out", str(run),
        "--model", author, "--url", ",".join(server.url for server in replicas),
        "--tokenizer", str(MODELS[author]),
        "--thinking-tokens", "600", "--answer-tokens", "64", *more,
    ]  # fmt: skip


def check(run: Path, author: Author, count: int) -> None:
    """Check every row, and that no row is missing or duplicated."""
    data = read_run(run)
    assert len(set(keys(data))) == len(keys(data)) == count
    renderer = load_renderer(MODELS[author])
    for row in data.trajectories:
        assert [(s.start, s.end, s.author) for s in row.spans] == [(0, len(row.thinking), author)]
        assert row.messages[-1].content == renderer.assistant(row.thinking, row.answer)
        assert (row.student_ids is None) == (author == "teacher")
        if row.student_ids is not None:
            assert decode(renderer.codec, unpack_ids(row.student_ids.thinking)) == row.thinking
            assert decode(renderer.codec, unpack_ids(row.student_ids.answer)) == row.answer
    for failure in data.failures:
        assert failure.detail


@pytest.mark.parametrize("author", ["teacher", pytest.param("student", marks=pytest.mark.long)])
def test_a_run_of_sample_has_the_models_own_responses(
    servers: Servers, questions, tmp_path, author: Author
):
    run = tmp_path / "run"
    output = finish(arguments(author, servers, questions(24), run, "--concurrency", "8"))
    check(run, author, 24)
    rows = read_run(run).trajectories
    assert len(rows) >= 20
    right = sum(str(row.problem["reference"]) in row.answer for row in rows)
    # The teacher can solve these, the student half of them; one guess in ten would be correct.
    assert right > len(rows) * {"student": 0.25, "teacher": 0.75}[author]
    assert str(run / "report.html") in output
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["requests"][author] >= 48
    log = (run / "run.log").read_text(encoding="utf-8")
    assert "generate" in log
    assert "KV caches" in log


@pytest.mark.parametrize(
    ("author", "number"),
    [
        ("student", signal.SIGKILL),
        pytest.param("teacher", signal.SIGINT, marks=pytest.mark.long),
    ],
)
def test_a_stopped_run_resumes(servers: Servers, questions, tmp_path, author: Author, number):
    run = tmp_path / "run"
    command = arguments(author, servers, questions(40), run, "--concurrency", "4")
    process = start(command)
    until_rows(run, 4, process)
    process.send_signal(number)
    output = end(process)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), output
    before = (run / "trajectories.jsonl").read_bytes()
    assert before.count(b"\n") < 40
    finish(command)
    after = (run / "trajectories.jsonl").read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])  # nothing lost, nothing altered
    check(run, author, 40)


def test_every_sample_gets_a_row_even_if_the_model_cannot_answer(servers: Servers, tmp_path):
    """Samples finish or fail; each outcome is a row."""
    problems = SHARED / "gsm8k_test.jsonl"
    if not problems.exists():
        pytest.skip(f"{problems.name} is only in the project's own checkout")
    run = tmp_path / "run"
    more = ("--limit", "12", "--attempts", "2", "--fields", "prompt=question")
    finish_what_is_too_hard(arguments("student", servers, problems, run, *more), run)
    check(run, "student", 12)


@pytest.mark.long
def test_samples_of_a_stopped_replica_move_to_the_other(servers: Servers, questions, tmp_path):
    run = tmp_path / "run"
    process = start(arguments("teacher", servers, questions(40), run, "--concurrency", "6"))
    until_rows(run, 4, process)
    servers.teacher_b.kill()
    output = end(process)
    assert process.returncode == 0, output
    log = (run / "run.log").read_text(encoding="utf-8")
    assert f"teacher: {servers.teacher_b.url} failed" in log
    check(run, "teacher", 40)
