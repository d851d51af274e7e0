"""What examples/train_predictors.sh refuses; tests/vllm runs it from end to end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "train_predictors.sh"


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
