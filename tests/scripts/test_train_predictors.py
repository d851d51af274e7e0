"""examples/train_predictors.sh without servers; tests/vllm runs it with servers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.predictor_chain import QUESTIONS, SCRIPT, check_chain, run_script


@pytest.mark.skipif(
    os.environ.get("CI") == "true", reason="in CI make test-vllm runs the same script with servers"
)
@pytest.mark.timeout(300)
def test_two_predictors_and_samples_without_servers(tmp_path: Path):
    out = tmp_path / "my own out"
    assert "is kept" not in run_script(OUT=str(out), LIMIT=str(QUESTIONS))
    check_chain(out)
    assert (out / "questions.jsonl").exists()


@pytest.mark.parametrize("name", ["a,b", "c++", "a+b/c"])
def test_names_that_would_be_taken_for_several_predictors_are_refused(tmp_path: Path, name: str):
    out = tmp_path / name
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "OUT": str(out)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"OUT={out}: ")
    assert not out.exists()
