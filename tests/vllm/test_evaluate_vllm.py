"""``tessy evaluate`` and ``compare`` as a user runs them, against real vLLM servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tessy.lab.bundled import student_path, teacher_path
from tessy.storage.run_reader import EVALUATIONS, iter_rows
from tests.lab.test_demo import TESSY, finish
from tests.vllm.servers import Servers

pytestmark = pytest.mark.vllm


def test_two_models_are_evaluated_and_compared(servers: Servers, questions, tmp_path: Path):
    models = {
        "student": (servers.student.url, student_path()),
        "teacher": (servers.teacher_a.url, teacher_path()),
    }
    for name, (url, folder) in models.items():
        output = finish(
            [
                TESSY, "evaluate", "--benchmark", str(questions(16)), "--out", str(tmp_path / name),
                "--model", name, "--url", url, "--tokenizer", str(folder),
                "--thinking-tokens", "600", "--answer-tokens", "64", "--concurrency", "8",
            ]
        )  # fmt: skip
        assert "16 responses to 16 problems" in output
        assert len(list(iter_rows(tmp_path / name, EVALUATIONS))) == 16
    scores = tmp_path / "scores.json"
    compare = [TESSY, "compare", str(tmp_path / "student"), str(tmp_path / "teacher")]
    output = finish([*compare, "--out", str(tmp_path / "scores.html")])
    assert "2 evaluations over the same 16 problems." in output
    student, teacher = json.loads(scores.read_text("utf-8"))["runs"]
    # The teacher can solve these problems.
    assert teacher["pass@1"]["value"] > 0.75
    assert teacher["pass@1"]["value"] >= student["pass@1"]["value"]
