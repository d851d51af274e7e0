"""examples/train_predictors.sh from end to end: questions, two predictors, a run that uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tessy.lab.bundled import student_path, teacher_path
from tessy.lab.questions import write_questions
from tessy.runs import read_run
from tessy.summary import AUTHORS
from tests.vllm.servers import Servers

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
QUESTIONS = 36
WAIT_SECONDS = 230


def run_script(**variables: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "examples" / "train_predictors.sh"],
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


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
    """More than are asked, in a file of another form."""
    write_questions(folder / "questions.jsonl", QUESTIONS + 4, seed=2)
    lines = (folder / "questions.jsonl").read_text("utf-8").splitlines()
    rows = [{"question": row.pop("prompt"), **row} for row in map(json.loads, lines)]
    path = folder / "others.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def check_chain(out: Path) -> None:
    for author in AUTHORS:
        responses = read_run(out / f"{author}-responses")
        assert len(responses.trajectories) + len(responses.failures) == QUESTIONS
        training = json.loads((out / f"{author}-predictor" / "training.json").read_text("utf-8"))
        assert training["author"] == author
        assert (out / f"{author}-evaluation" / "evaluation.svg").exists()
    samples = read_run(out / "samples")
    assert len(samples.trajectories) + len(samples.failures) == QUESTIONS
    config = json.loads((out / "samples" / "config.json").read_text("utf-8"))["config"]
    assert config["student"]["predictor"].endswith("student-predictor")
    assert config["teacher"]["predictor"].endswith("teacher-predictor")


def test_through_real_servers_to_predictors_that_synthesis_uses(servers: Servers, tmp_path: Path):
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
    # A second call finds everything made.
    before = (tmp_path / "out" / "samples" / "trajectories.jsonl").read_bytes()
    told = run_script(**on_servers(servers), **asked)
    assert all(f"{author}-predictor is kept" in told for author in AUTHORS)
    assert (tmp_path / "out" / "samples" / "trajectories.jsonl").read_bytes() == before


def test_without_servers(tmp_path: Path):
    out = tmp_path / "my own out"
    assert "is kept" not in run_script(OUT=str(out), LIMIT=str(QUESTIONS))
    check_chain(out)
    assert (out / "questions.jsonl").exists()
