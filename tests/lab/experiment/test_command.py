"""``tessy lab``: a tiny experiment by the real commands. Nothing here asserts its outcome."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from rich.console import Console

from tessy.config.lab import LabConfig
from tessy.core.errors import ConfigError, RunError
from tessy.lab.experiment import command
from tessy.lab.experiment.arms import TEACHER_ONLY, TESSY
from tessy.lab.experiment.command import run_lab
from tessy.lab.experiment.data import ordered
from tessy.lab.experiment.design import LabJob, Setting, Trainings
from tessy.lab.experiment.paths import LabPaths
from tessy.lab.experiment.problems import first_ids
from tessy.storage.run_reader import iter_trajectories
from tests.support.lab_runs import SETTING, TINY, do_here, made_up, opened

pytestmark = [
    pytest.mark.timeout(600),  # a busy machine takes minutes
    pytest.mark.usefixtures("one_thread"),
]

TRAINED = {arm: LabJob("train", 0, arm, SETTING, 0, arm == TESSY) for arm in (TEACHER_ONLY, TESSY)}


def result(paths: LabPaths, job: LabJob):
    return json.loads(paths.result(job).read_bytes())


@pytest.fixture(scope="module")
def paths(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> LabPaths:
    """A finished experiment, whose jobs ran in this process."""
    made = opened(tmp_path_factory.mktemp("lab") / "out")
    for job in TINY.jobs():
        do_here(made, job)
    return made


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


def test_data_for_fewer_problems_are_made_from_the_first_rows_of_others(tmp_path):
    few = Setting(3, 1, 2e-4)
    design = replace(
        TINY,
        trainings=(
            Trainings((TEACHER_ONLY,), (SETTING,), (0,)),
            Trainings(("restyle-1", "teacher-mix"), (few,), (0,)),
        ),
    )
    made = opened(tmp_path / "out", design)
    ids = first_ids(made.problems, SETTING.rows)
    rows = {TEACHER_ONLY: ids, "student-only": ids[:3], "restyle-1": ids[:3]}
    for job in design.jobs():
        if job.kind in ("untrained", "data"):
            do_here(made, job, design)
    for recipe, expected in rows.items():
        assert [row.id for row in ordered(made.data(0, recipe))] == expected, recipe
    mixed = {(row.id, row.strategy) for row in ordered(made.data(0, "teacher-mix"))}
    assert {name for name, _ in mixed} == set(ids[:3])
    assert not made.work.exists() or not list(made.work.iterdir())


def without_load(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without times, and without counts that depend on the load."""
    found = {**result, "seconds": None}
    if "sample" in found:
        left_out = ("seconds", "cost", "tokens")
        found["sample"] = {k: v for k, v in found["sample"].items() if k not in left_out}
    return found


def test_a_repeated_experiment_is_identical(paths, tmp_path):
    again = opened(tmp_path / "out")
    for job in (LabJob("untrained", 0), LabJob("data", 0, TESSY), TRAINED[TESSY]):
        assert without_load(do_here(again, job)) == without_load(result(paths, job))


@pytest.mark.long
def test_worker_processes_give_the_same_results(paths, tmp_path):
    other = LabPaths(tmp_path / "out")
    assert run_lab(LabConfig(out=other.out, workers=2), TINY) == 0
    for job in TINY.jobs():
        assert without_load(result(other, job)) == without_load(result(paths, job))


def test_jobs_can_be_sent_to_a_process(tmp_path):
    from tessy.lab.experiment.measure import LabContext, run_job

    assert len(ForkingPickler.dumps(partial(run_job, LabContext(tmp_path, TINY))))


def test_a_finished_experiment_only_writes_its_pages(paths):
    before = {path: path.stat().st_mtime_ns for path in paths.jobs.iterdir()}
    output = io.StringIO()
    config = LabConfig(out=paths.out, workers=1)
    assert run_lab(config, TINY, Console(file=output)) == 0
    assert {path: path.stat().st_mtime_ns for path in paths.jobs.iterdir()} == before
    assert not paths.logs.exists()
    assert paths.page.is_file()
    assert paths.data_page.is_file()
    assert paths.scores_page.is_file()
    assert "Teacher-Only < student < TESSY" in output.getvalue()
    titles = [table["title"] for table in json.loads(paths.figures.read_bytes())["tables"]]
    assert titles[-2:] == ["Why wrong answers are wrong", "The training data"]
    assert not list(paths.out.rglob("*.safetensors"))


def test_another_design_needs_another_folder(paths):
    with pytest.raises(RunError, match="design") as caught:
        run_lab(LabConfig(out=paths.out), replace(TINY, questions={"calc": 1}))
    assert len(str(caught.value)) < 500
    with pytest.raises(RunError, match="full: false, now true"):
        run_lab(LabConfig(out=paths.out, full=True), TINY)


def test_commands_for_runs_name_the_page(paths):
    with pytest.raises(RunError, match=r"is an experiment of `tessy lab`, whose page is lab\.html"):
        list(iter_trajectories(paths.out))


def test_a_stopped_experiment_has_a_page_once_a_training_has_finished(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_all", lambda *_, **__: False)  # as Ctrl-C ends it
    stopped = LabPaths(tmp_path / "out")
    shutil.copytree(paths.out, stopped.out)
    for page in (stopped.page, stopped.figures):
        page.unlink(missing_ok=True)
    output = io.StringIO()
    trained = [stopped.result(job) for job in TRAINED.values()]
    trained[0].unlink()
    # Its evaluation was interrupted.
    (stopped.evaluations / trained[0].stem / "evaluations.jsonl").write_bytes(b"")
    assert run_lab(LabConfig(out=stopped.out), TINY, Console(file=output)) == 130
    assert output.getvalue().rstrip().endswith("Stopped gracefully. The same command resumes it.")
    claim = json.loads(stopped.figures.read_bytes())["claim"]
    assert claim.startswith(f"Unfinished run (4 of {len(TINY.jobs())} jobs): scores may be of")
    assert claim.endswith("This run has no scores for the paper's claim yet.")
    stopped.page.unlink()
    trained[1].unlink()
    assert run_lab(LabConfig(out=stopped.out), TINY, Console(file=output)) == 130
    assert not stopped.page.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_result_is_named(paths, tmp_path, content):
    damaged = LabPaths(tmp_path / "out")
    shutil.copytree(paths.out, damaged.out)
    result = damaged.result(LabJob("untrained", 0))
    result.write_bytes(content)
    with pytest.raises(
        RunError, match="damaged: it is not the result of the job untrained-s0-r0; delete it"
    ) as caught:
        run_lab(LabConfig(out=damaged.out), TINY)
    assert str(result) in str(caught.value)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="was not written by `tessy lab`"):
        run_lab(LabConfig(out=tmp_path), TINY)


def test_an_unfit_student_is_refused_before_anything_is_trained(tmp_path):
    paths = opened(tmp_path / "out")
    made_up(tmp_path / "made-up", TINY, {"untrained": 0.2})
    gate = paths.result(LabJob("untrained", 0))
    shutil.copy(tmp_path / "made-up" / "jobs" / gate.name, gate)
    with pytest.raises(ConfigError, match=r"unfit.* 0\.\d+ on calc .*, below 0\.55"):
        run_lab(LabConfig(out=paths.out), TINY)
    assert [path.name for path in paths.jobs.iterdir()] == [gate.name]
    assert not paths.logs.exists()
