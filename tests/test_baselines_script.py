"""scripts/baselines from end to end with the bundled models, on a few questions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tessy.runs import read_run

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "baselines"
RUNS = (
    "tessy",
    "student-only",
    "teacher-only",
    "teacher-think",
    "teacher-answer",
    "teacher-score",
    "teacher-reference",
    "tessy-teacher-answers",
    "teacher-only-system-prompt",
    "teacher-mix",
)
COUNT = 4


def baselines(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [SCRIPT],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": path,
            "OMP_NUM_THREADS": "1",
            "CONFIG": str(config),
            "OUT": str(out),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
def test_every_method_is_made_once_and_shown_on_one_page(tmp_path):
    config = tmp_path / "few.toml"
    example = (ROOT / "examples" / "baselines.toml").read_text("utf-8")
    config.write_text(f"limit = {COUNT}\n{example}", "utf-8")
    out = tmp_path / "runs"
    done = baselines(config, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(str(out / "compare.html"))
    assert sorted(path.name for path in out.iterdir()) == sorted([*RUNS, "compare.html"])
    page = (out / "compare.html").read_text("utf-8")
    rows = {}
    for name in RUNS:
        assert f'<th scope="row"><bdi>{name}</bdi></th>' in page
        run = read_run(out / name)
        assert len(run.trajectories) + len(run.failures) == COUNT
        rows[name] = (out / name / "trajectories.jsonl").read_bytes()

    again = baselines(config, out)
    assert again.returncode == 0, again.stderr
    for name in RUNS:
        assert (out / name / "trajectories.jsonl").read_bytes() == rows[name]


def test_a_wrong_config_ends_it_before_anything_is_made(tmp_path):
    config = tmp_path / "wrong.toml"
    config.write_text("sede = 1\n", "utf-8")
    done = baselines(config, tmp_path / "runs")
    assert done.returncode == 2
    assert "sede" in done.stderr
    assert not (tmp_path / "runs").exists()
