"""examples/train_predictors.sh from end to end: problems, two predictors, a run that uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tessy.core.records import AUTHORS
from tessy.lab.bundled import student_path, teacher_path
from tessy.lab.write_problems import write_problems
from tests.support.predictor_chain import QUESTIONS, check_chain, run_script
from tests.support.run_data import read_run
from tests.vllm.servers import Servers

pytestmark = pytest.mark.vllm


def on_servers(servers: Servers) -> dict[str, str]:
    return {
        "STUDENT": "student",
        "STUDENT_URL": servers.student.url,
        "STUDENT_TOKENIZER": str(student_path()),
        "TEACHER": "teacher",
        "TEACHER_URL": f"{servers.teacher_a.url},{servers.teacher_b.url}",
        "TEACHER_TOKENIZER": str(teacher_path()),
        "BASE": str(student_path()),
        "LENGTHS": "--thinking-tokens 600 --answer-tokens 64",
        "TRAINING": "--learning-rate 3e-3 --test-share 0.1 --epochs 1 --batch 8",
    }


def write_questions_of_others(folder: Path) -> Path:
    """Write more problems than are used, to a file of another format."""
    write_problems(folder / "questions.jsonl", QUESTIONS + 4, seed=2)
    lines = (folder / "questions.jsonl").read_text("utf-8").splitlines()
    rows = [{"question": row.pop("prompt"), **row} for row in map(json.loads, lines)]
    path = folder / "others.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.long
def test_the_commands_train_predictors_for_synthesis_on_real_servers(
    servers: Servers, tmp_path: Path
):
    asked = {
        "PROBLEMS": str(write_questions_of_others(tmp_path)),
        "FIELDS": "prompt=question",
        "LIMIT": str(QUESTIONS),
        "OUT": str(tmp_path / "out"),
    }
    run_script(**on_servers(servers), **asked)
    check_chain(tmp_path / "out")
    samples = read_run(tmp_path / "out" / "samples")
    assert len(samples.trajectories) > QUESTIONS * 0.8
    assert any(len(row.spans) > 3 for row in samples.trajectories)
    # A second call has nothing left to do.
    before = (tmp_path / "out" / "samples" / "trajectories.jsonl").read_bytes()
    told = run_script(**on_servers(servers), **asked)
    assert all(f"{author}-predictor is kept" in told for author in AUTHORS)
    assert (tmp_path / "out" / "samples" / "trajectories.jsonl").read_bytes() == before
