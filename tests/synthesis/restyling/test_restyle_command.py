"""``tessy synthesize --strategy restyle`` as a user runs it, with the bundled models."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tessy.boundary.load import load_predictor
from tessy.core.records import TeacherTrace, unpack_ids
from tessy.lab.bundled import demo_problems, predictor_path, student_path, teacher_path
from tessy.synthesis.restyling.estimate import split
from tessy.synthesis.restyling.thinking import keeps_in_order
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.lab.test_demo import TESSY, content, finish, interrupt, write_problems
from tests.support.run_data import read_run

COUNT = 8


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``teacher-only``."""
    folder = tmp_path_factory.mktemp("traces")
    questions = write_problems(
        folder / "questions.jsonl",
        [{"id": p.id, "prompt": p.messages[0].content, **p.extra} for p in demo_problems(COUNT, 3)],
    )
    run = folder / "teacher"
    finish(
        [
            TESSY, "synthesize", "--strategy", "teacher-only", "--problems", str(questions),
            "--student.model", str(student_path()), "--teacher.model", str(teacher_path()),
            "--out", str(run), "--answer-tokens", "32",
        ]
    )  # fmt: skip
    return run


def restyle(traces: Path, out: Path, *more: str) -> list[str]:
    return [
        TESSY, "synthesize", "--strategy", "restyle", "--traces", str(traces),
        "--student.model", str(student_path()), "--out", str(out), "--answer-tokens", "32",
        "--thinking-tokens", "400", *more,
    ]  # fmt: skip


def test_a_run_of_the_teacher_is_restyled_without_the_teacher(traces: Path, tmp_path: Path):
    run = tmp_path / "run"
    output = finish(restyle(traces, run))
    assert "places a trace" in output  # the cost, before
    assert "tokens scored" in " ".join(output.split())  # and after
    rows = {row.id: row for row in read_run(run).trajectories}
    codec = load_renderer(student_path()).codec
    assert len(rows) == COUNT
    for source in read_run(traces).trajectories:
        row = rows[source.id]
        assert (row.strategy, row.problem) == ("restyle", source.problem)
        assert row.messages[:-1] == source.messages[:-1]
        trace = TeacherTrace(thinking=source.thinking)
        places = asyncio.run(split(row.id, trace, load_predictor("lexicon"), "discard"))
        assert keeps_in_order(row.thinking, [place.capability for place in places])
        assert row.student_ids is not None
        assert decode(codec, unpack_ids(row.student_ids.thinking)) == row.thinking
        assert row.cost.requests == {"student": row.cost.requests["student"], "teacher": 0}
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["restyle"]["places"] == sum(
        len(r.restyle.draws) for r in rows.values() if r.restyle
    )
    before = (run / "trajectories.jsonl").read_bytes()
    finish(restyle(traces, run))
    assert (run / "trajectories.jsonl").read_bytes() == before


def test_a_killed_run_resumes_to_the_same_rows(traces: Path, tmp_path: Path):
    more = ("--concurrency", "2")
    finish(restyle(traces, tmp_path / "whole", *more))
    interrupt(restyle(traces, tmp_path / "killed", *more), tmp_path / "killed", 2, signal.SIGKILL)
    assert len(read_run(tmp_path / "killed").trajectories) < COUNT
    output = finish(restyle(traces, tmp_path / "killed", *more))
    assert "places a trace" not in output  # stated at the start of the run
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_doctor_and_plan_need_only_the_student(traces: Path, tmp_path: Path):
    command = restyle(traces, tmp_path / "run")
    output = finish([command[0], "doctor", *command[2:]])
    assert f"Traces: {traces}" in output
    assert "Everything a run needs is in place" in output
    assert "Teacher:" not in output
    output = finish([command[0], "plan", *command[2:], "--pilot", "5"])
    assert "Generated, student" in output
    assert "Scored tokens, student" in output


def test_a_row_whose_trace_has_changed_is_refused(traces: Path, tmp_path: Path):
    file = tmp_path / "traces.jsonl"
    row = {"id": "a", "prompt": "1 + 2?", "response": "<think>We need to: 1 + 2 = 3.</think>3"}
    write_problems(file, [row])
    finish(restyle(file, tmp_path / "run"))
    write_problems(file, [row | {"response": "<think>We need to: 1 + 2 = 4.</think>4"}])
    output = finish(restyle(file, tmp_path / "run"), code=2)
    assert "has rows of other problems under the ids 'a'" in output


def test_a_run_with_a_trace_that_failed_before_its_split_resumes(traces: Path, tmp_path: Path):
    file = tmp_path / "traces.jsonl"
    row = {"id": "a", "prompt": "1 + 2?", "response": "<think>Okay, let me see.</think>3"}
    write_problems(file, [row])
    finish(restyle(file, tmp_path / "run"), code=1)  # no sample succeeded
    (failure,) = read_run(tmp_path / "run").failures
    assert failure.reason == "no_capability"
    finish(restyle(file, tmp_path / "run"), code=1)
    write_problems(file, [row | {"response": "<think>Okay, let me try.</think>3"}])
    output = finish(restyle(file, tmp_path / "run"), code=2)
    assert "has rows of other problems under the ids 'a'" in output


def test_a_trace_without_an_answer_is_bad_where_the_answer_is_kept(tmp_path: Path):
    file = tmp_path / "traces.jsonl"
    write_problems(
        file, [{"id": "a", "prompt": "1 + 2?", "response": "<think>Okay, 1 + 2 = 3.</think>"}]
    )
    output = finish(restyle(file, tmp_path / "run", "--answer-by", "trace"), code=2)
    assert f"{file}:1: answer: expected an answer after the thinking" in output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--problems", "q.jsonl"), "takes its problems from --traces"),
        (("--strategy", "student-only"), "does not read traces"),
        (("--answer-by", "teacher"), "takes student or trace; got teacher"),
        (("--student.predictor", str(predictor_path("student"))), "would delete capability"),
        (("--strategy", "tessy"), "does not read traces"),
    ],
)
def test_options_that_do_not_fit_are_refused(traces: Path, tmp_path: Path, more, message):
    assert message in finish(restyle(traces, tmp_path / "run", *more), code=2)
    assert not (tmp_path / "run" / "trajectories.jsonl").exists()


def test_a_classifier_splits_if_it_is_forced(traces: Path, tmp_path: Path):
    more = ("--student.predictor", str(predictor_path("student")), "--allow-classifier")
    finish(restyle(traces, tmp_path / "run", *more, "--limit", "2", "--unfit", "keep"))
    data = read_run(tmp_path / "run")
    assert len(data.trajectories) + len(data.failures) == 2


def test_the_traces_are_required(tmp_path: Path):
    command = restyle(tmp_path, tmp_path / "run")
    at = command.index("--traces")
    assert "traces: is required" in finish([*command[:at], *command[at + 2 :]], code=2)
