"""Running examples/train_predictors.sh, and checks of its outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tessy.core.records import AUTHORS
from tests.support.paths import EXAMPLES
from tests.support.run_data import read_run

SCRIPT = EXAMPLES / "train_predictors.sh"
QUESTIONS = 36
WAIT_SECONDS = 230


def run_script(**variables: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


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
