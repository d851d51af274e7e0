"""``tessy lab``: a tiny experiment by the real commands. Nothing here asserts its outcome."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from tessy.config.lab import LabConfig
from tessy.core.errors import ConfigError, RunError
from tessy.lab.experiment.arms import TEACHER_ONLY, TESSY
from tessy.lab.experiment.command import run_lab
from tessy.lab.experiment.design import LabJob
from tessy.lab.experiment.paths import LabPaths
from tessy.storage.run_reader import iter_trajectories
from tests.support.lab_runs import SETTING, TINY, made_up, run_tiny

TRAINED = {arm: LabJob("train", 0, arm, SETTING, 0, arm == TESSY) for arm in (TEACHER_ONLY, TESSY)}


def result(paths: LabPaths, job: LabJob):
    return json.loads(paths.result(job).read_bytes())


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> LabPaths:
    """A finished experiment."""
    out = tmp_path_factory.mktemp("lab") / "out"
    assert run_tiny(out) == 0
    return LabPaths(out)


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_arm_has_the_same_problems_rows_and_steps(paths):
    found = [result(paths, job) for job in TRAINED.values()]
    assert [one["distinct_rows"] for one in found] == [SETTING.rows] * 2
    assert [one["steps"] for one in found] == [1, 1]
    problems = [
        [row.messages[0].content for row in sorted(iter_trajectories(run), key=lambda row: row.key)]
        for run in (paths.data(0, arm) for arm in TRAINED)
    ]
    assert problems[0] == problems[1]
    assert len(problems[0]) == SETTING.rows


def test_every_model_answers_the_same_questions(paths):
    for job in (LabJob("untrained", 0), *TRAINED.values()):
        correct = result(paths, job)["correct"]
        assert {task: len(answers) for task, answers in correct.items()} == TINY.questions
    assert [one["epoch"] for one in result(paths, TRAINED[TESSY])["by_epoch"]] == [1]


def test_the_loss_before_training_is_the_likelihood_of_the_data(paths):
    for arm, job in TRAINED.items():
        data = result(paths, LabJob("data", 0, arm))
        assert result(paths, job)["losses"] == pytest.approx([data["nll"]["all"]["value"]], 1e-4)
        assert result(paths, job)["learned_tokens"] == data["nll"]["all"]["n"]


def test_no_model_is_kept(paths):
    assert not list(paths.out.rglob("*.safetensors"))
    assert paths.page.is_file()
    assert paths.data_page.is_file()
    assert paths.scores_page.is_file()


def test_a_repeated_experiment_is_identical(paths, tmp_path, one_thread):
    from tessy.lab.experiment.measure import LabContext, run_job

    again = LabPaths(tmp_path)
    again.jobs.mkdir()
    shutil.copy(paths.problems, again.problems)
    shutil.copy(paths.questions, again.questions)
    for job in (LabJob("untrained", 0), LabJob("data", 0, TESSY), TRAINED[TESSY]):
        found = {"job": job.id, **run_job(LabContext(tmp_path, TINY), job)}
        again.result(job).write_text(json.dumps(found))
        found, before = result(again, job), result(paths, job)
        for one in (found, before):
            one.pop("seconds", None)
            # Their times differ, and what was in flight at the same time.
            for name in ("seconds", "cost", "tokens"):
                (one.get("sample") or {}).pop(name, None)
        assert found == before


def test_a_finished_experiment_only_writes_its_page(paths):
    before = {path: path.stat().st_mtime_ns for path in paths.jobs.iterdir()}
    paths.page.unlink()
    output = io.StringIO()
    config = LabConfig(out=paths.out, workers=1)
    assert run_lab(config, TINY, Console(file=output)) == 0
    assert paths.page.is_file()
    assert {path: path.stat().st_mtime_ns for path in paths.jobs.iterdir()} == before
    assert "Teacher-Only < student < TESSY" in output.getvalue()


def test_another_design_needs_another_folder(paths):
    with pytest.raises(RunError, match="design"):
        run_lab(LabConfig(out=paths.out), replace(TINY, seeds=(1,)))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="was not written by `tessy lab`"):
        run_lab(LabConfig(out=tmp_path), TINY)


def test_an_unfit_student_is_refused_before_anything_is_trained(tmp_path):
    paths = LabPaths(tmp_path / "out")
    made_up(tmp_path / "made-up", TINY, {"untrained": 0.2})
    gate = paths.result(LabJob("untrained", 0))
    with pytest.raises(RunError):  # creates the folder, as an interrupted run does
        run_lab(LabConfig(out=paths.out), TINY, Stopped())
    shutil.copy(tmp_path / "made-up" / "jobs" / gate.name, gate)
    with pytest.raises(ConfigError, match=r"unfit.* 0\.\d+ on calc, below 0\.55"):
        run_lab(LabConfig(out=paths.out), TINY)
    assert [path.name for path in paths.jobs.iterdir()] == [gate.name]
    assert not paths.logs.exists()


class Stopped(Console):
    """A console that cannot be written to."""

    def print(self, *_: object, **__: object) -> None:
        raise RunError("as asked")
