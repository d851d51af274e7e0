"""``tessy plan`` on the command line, with the bundled models."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tessy.lab.bundled import demo_problems
from tessy.plan.pilot import read_pilot_samples
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import read_config
from tests.lab.test_demo import content, finish, interrupt, synthesize, write_problems
from tests.support.run_data import read_run

COUNT = 36
PILOT = 12
ROW_FILES = ("trajectories.jsonl", "failures.jsonl")


def problems_file(folder: Path, count: int = COUNT) -> Path:
    rows: list[object] = [
        {"id": p.id, "prompt": p.messages[0].content} for p in demo_problems(count, 5)
    ]
    return write_problems(folder / "questions.jsonl", rows)


def plan(problems: Path, run: Path, *more: str) -> list[str]:
    command = synthesize(problems, run, "--pilot", str(PILOT), *more)
    return [command[0], "plan", *command[2:]]


def plan_json(run: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run / "plan.json").read_bytes())
    return document


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the whole file without a plan."""
    folder = tmp_path_factory.mktemp("plan")
    finish(synthesize(problems_file(folder), folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def planned(whole: Path) -> Path:
    """A plan of the same file, in another directory."""
    run = whole.parent / "planned"
    output = finish(plan(whole.parent / "questions.jsonl", run))
    (whole.parent / "output.txt").write_text(output, encoding="utf-8")
    return run


def test_a_plan_reports_figures_of_a_random_pilot_with_intervals(planned: Path):
    output = (planned.parent / "output.txt").read_text(encoding="utf-8")
    for text in (
        "so far",
        "to come",
        "95 % interval",
        "Kept tokens, teacher",
        "Generated, student",
    ):
        assert text in output
    assert f"From {PILOT} samples of {PILOT} problems." in output
    assert "continues the run" in output
    samples = read_pilot_samples(RunPaths(planned), {(p.id, 0) for p in demo_problems(COUNT, 5)})
    assert len(samples) == PILOT
    assert {sample.problem for sample in samples} != {p.id for p in demo_problems(PILOT, 5)}
    document = plan_json(planned)
    assert document["samples"] == {"ended": PILOT, "questions": PILOT, "to_come": COUNT - PILOT}
    assert document["in_flight"] == COUNT - PILOT  # 32 fit, but only these remain
    assert document["load"]["most"] == PILOT
    hours = document["hours"]
    assert 0 < hours["low"] <= hours["to_come"] <= hours["high"]
    assert hours["at_most"] > hours["to_come"]
    assert "The time is a lower bound" in output
    assert f"--pilot {COUNT}." in output


def test_the_intervals_cover_the_whole_run(planned: Path, whole: Path):
    figures = plan_json(planned)["figures"]
    samples = read_pilot_samples(RunPaths(whole), {(p.id, 0) for p in demo_problems(COUNT, 5)})
    assert len(samples) == COUNT
    for part in ("student", "teacher", "answer"):
        figure = figures[f"kept.{part}"]
        truth = sum(sample.kept[part] for sample in samples)
        assert figure["so_far"] + figure["low"] <= truth <= figure["so_far"] + figure["high"]
    size = sum(sample.size for sample in samples)
    figure = figures["bytes"]
    assert figure["so_far"] + figure["low"] <= size <= figure["so_far"] + figure["high"]
    failed = sum(sample.reason is not None for sample in samples)
    assert (
        figures["failures"]["low"] <= failed <= COUNT * plan_json(planned)["failure_share"]["high"]
    )


def test_a_run_resumes_the_pilot_and_writes_the_same_rows(
    planned: Path, whole: Path, tmp_path: Path
):
    problems, run = whole.parent / "questions.jsonl", tmp_path / "run"
    shutil.copytree(planned, run)
    before = [(run / name).read_bytes() for name in ROW_FILES]
    again = finish(plan(problems, run))
    assert [(run / name).read_bytes() for name in ROW_FILES] == before  # no sample is repeated
    assert plan_json(run)["load"] == plan_json(planned)["load"]  # the measurement is kept
    assert "The time is a lower bound" in again
    assert read_config(run)["data_config"] == read_config(whole)["data_config"]
    finish(synthesize(problems, run))
    for name, rows in zip(ROW_FILES, before, strict=True):
        assert (run / name).read_bytes().startswith(rows)
    assert content(run) == content(whole)
    assert "All samples have ended" in finish(plan(problems, run))
    assert plan_json(run)["samples"]["to_come"] == 0


def test_all_rows_of_an_earlier_run_are_used(whole: Path, tmp_path: Path):
    problems, run = whole.parent / "questions.jsonl", tmp_path / "run"
    finish(synthesize(problems, run, "--limit", "15"))
    output = finish(plan(problems, run))
    ended = plan_json(run)["samples"]["ended"]
    assert 15 < ended < 15 + PILOT
    assert f"of an earlier run {'is' if ended - PILOT == 1 else 'are'} included" in output
    assert {f"calc-{n:04d}" for n in range(1, 16)} <= {r.id for r in read_run(run).trajectories}


def test_a_pilot_larger_than_the_file_runs_all_samples(tmp_path: Path):
    output = finish(
        plan(problems_file(tmp_path, 3), tmp_path / "run", "--samples-per-problem", "2")
    )
    assert "All samples have ended" in output
    assert plan_json(tmp_path / "run")["samples"] == {"ended": 6, "questions": 3, "to_come": 0}
    more = finish(plan(problems_file(tmp_path, 3), tmp_path / "run", "--samples-per-problem", "9"))
    assert "continues the run" in more
    fewer = ("--samples-per-problem", "9", "--pilot", "5")  # fewer than were drawn before
    again = finish(plan(problems_file(tmp_path, 3), tmp_path / "run", *fewer))
    assert "of an earlier run" not in again
    assert plan_json(tmp_path / "run")["samples"] == {"ended": 12, "questions": 3, "to_come": 15}


def test_budgets_are_compared_and_do_not_stop_the_pilot(tmp_path: Path):
    budgets = ("--budget-tokens", "1", "--budget-hours", "1000")
    output = finish(plan(problems_file(tmp_path), tmp_path / "run", *budgets))
    assert "budget_tokens (1) is not enough for the whole file" in output
    assert "budget_hours (1,000 h) is enough for the whole file" in output


def test_too_few_finished_samples_are_an_error(tmp_path: Path):
    # No thinking fits into 12 tokens, and few into 44.
    command = plan(problems_file(tmp_path), tmp_path / "run", "--thinking-tokens", "12")
    assert "None of 12 samples could be finished (budget exceeded 12)" in finish(command, code=1)
    command = plan(problems_file(tmp_path), tmp_path / "few", "--thinking-tokens", "44")
    output = finish(command, code=1)
    assert "of 12 samples finished (failed: budget" in output
    assert "an interval needs 5" in output
    assert not (tmp_path / "few" / "plan.json").exists()


def test_an_interrupted_pilot_is_resumed(whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    command = plan(whole.parent / "questions.jsonl", run, "--concurrency", "2", "--pilot", "30")
    output = interrupt(command, run, 2, signal.SIGINT)
    assert "Stopped gracefully" in output
    assert not (run / "plan.json").exists()
    finish(command)
    assert plan_json(run)["samples"]["ended"] == 30
    assert plan_json(run)["in_flight"] == 2


@pytest.mark.parametrize(("option", "value"), [("--pilot", "4"), ("--budget-hours", "-1")])
def test_invalid_options_are_refused_before_any_work(tmp_path: Path, option: str, value: str):
    output = finish(plan(problems_file(tmp_path), tmp_path / "run", option, value), code=2)
    assert option.removeprefix("--").replace("-", "_") in output.replace("-", "_")
    assert not (tmp_path / "run").exists()
