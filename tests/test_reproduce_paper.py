"""examples/reproduce_paper: its files are valid, and its script runs with the bundled models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tessy.config.base import Config
from tessy.config.data import FilterConfig
from tessy.config.evaluation import EvaluateConfig
from tessy.config.toml import load_config
from tessy.config.training import SftConfig
from tessy.lab.bundled import demo_problems, student_path, teacher_path
from tests.support.paths import EXAMPLES

FOLDER = EXAMPLES / "reproduce_paper"
GIVEN: dict[str, tuple[type[Config], dict[str, object]]] = {
    "filter.toml": (FilterConfig, {"run": "samples", "out": "filtered"}),
    "sft.toml": (SftConfig, {"data": "train.parquet", "out": "student"}),
    "evaluate.toml": (EvaluateConfig, {"benchmark": "aime24", "model": "m", "out": "before"}),
}


def test_every_file_is_loaded_here():
    assert {path.name for path in FOLDER.iterdir()} == {*GIVEN, "run.sh"}


@pytest.mark.parametrize("name", GIVEN)
def test_a_file_is_valid_with_and_without_its_comments(name, tmp_path):
    config, given = GIVEN[name]
    load_config(config, FOLDER / name, given)
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    keys = [line.removeprefix("# ") if " = " in line else line for line in lines]
    (tmp_path / name).write_text("\n".join(keys), "utf-8")
    load_config(config, tmp_path / name, given)


def test_the_settings_are_those_of_the_paper():
    sft = load_config(SftConfig, FOLDER / "sft.toml", GIVEN["sft.toml"][1])
    assert isinstance(sft, SftConfig)
    assert (sft.highest_learning_rate, sft.batch, sft.epochs) == (5e-5, 128, 9)
    evaluate = load_config(EvaluateConfig, FOLDER / "evaluate.toml", GIVEN["evaluate.toml"][1])
    assert isinstance(evaluate, EvaluateConfig)
    assert evaluate.sampling.temperature == 0.6
    assert evaluate.thinking_tokens + evaluate.answer_tokens <= 40_960


def write_problems(path: Path, count: int, seed: int) -> Path:
    rows = [
        {"id": p.id, "prompt": p.messages[0].content, "reference": p.extra["reference"]}
        for p in demo_problems(count, seed)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def run(folder: Path, *steps: str, **settings: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OUT": str(folder / "out"),
        "OMP_NUM_THREADS": "1",
        **settings,
    }
    done = subprocess.run(
        [FOLDER / "run.sh", *steps],
        env=environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_script_runs_from_problems_to_a_comparison(tmp_path: Path):
    problems = write_problems(tmp_path / "problems.jsonl", 12, seed=1)
    benchmark = write_problems(tmp_path / "bench.jsonl", 10, seed=2)
    (tmp_path / "synthesize.toml").write_text(
        f'problems = "{problems}"\nthinking_tokens = 600\nanswer_tokens = 64\n'
        f'student = {{ model = "{student_path()}" }}\nteacher = {{ model = "{teacher_path()}" }}\n'
    )
    (tmp_path / "filter.toml").write_text("")
    (tmp_path / "sft.toml").write_text("epochs = 2\nbatch = 2\n")
    (tmp_path / "evaluate.toml").write_text("thinking_tokens = 600\nanswer_tokens = 64\n")
    settings = {
        "SYNTHESIZE": str(tmp_path / "synthesize.toml"),
        "FILTER": str(tmp_path / "filter.toml"),
        "SFT": str(tmp_path / "sft.toml"),
        "EVALUATE": str(tmp_path / "evaluate.toml"),
        "BENCHMARKS": str(benchmark),
        "STUDENT": str(student_path()),
        "BEFORE_URL": "",
        "AFTER_URL": "",
        "LAUNCH": "tessy",
    }
    output = run(tmp_path, **settings)
    assert "Differences to before-bench" in output
    figures = json.loads((tmp_path / "out" / "compare-bench.json").read_bytes())
    assert [run["samples"] for run in figures["runs"]] == [10, 10]
    assert len(list((tmp_path / "out" / "student").glob("checkpoint-*"))) == 2
