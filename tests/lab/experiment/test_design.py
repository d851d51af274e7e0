"""Designs: the same budget for every arm, and an order in which jobs can be done."""

from __future__ import annotations

import pytest

from tessy.lab.experiment.arms import ARMS, DISTANCES, TEACHER_ONLY, TESSY, UPPER
from tessy.lab.experiment.design import Design, LabJob, full, quick
from tessy.lab.experiment.estimate import seconds_left
from tessy.lab.experiment.recipes import RECIPES, sources

designs = pytest.mark.parametrize("design", [quick(), full()], ids=["quick", "full"])


@designs
def test_jobs_can_be_done_in_their_order(design: Design):
    seen: set[str] = set()
    for job in design.jobs():
        assert seen.issuperset(design.needs(job)), job.id
        assert job.id not in seen
        seen.add(job.id)


@designs
def test_everything_waits_until_the_student_has_passed(design: Design):
    jobs = {job.id: job for job in design.jobs()}

    def behind(job: LabJob) -> set[str]:
        direct = design.needs(job)
        return set(direct).union(*(behind(jobs[name]) for name in direct))

    for job in jobs.values():
        gate = LabJob("untrained", job.student, seed=design.seeds[0]).id
        if job.id != gate and job.kind != "student":
            assert gate in behind(job), job.id


@designs
def test_the_main_arms_have_every_seed_and_setting(design: Design):
    jobs = [job for job in design.jobs() if job.kind == "train"]
    for arm in (TEACHER_ONLY, TESSY, UPPER):
        settings = {(job.student, job.setting, job.seed) for job in jobs if job.name == arm}
        expected = {
            (student, setting, seed)
            for student in design.students
            for setting in design.settings()
            for seed in design.seeds
        }
        assert settings == expected
    for arm in DISTANCES.values():
        assert {job.seed for job in jobs if job.name == arm} == set(design.seeds)


@designs
def test_the_untrained_student_is_evaluated_with_every_seed(design: Design):
    found = {(job.student, job.seed) for job in design.jobs() if job.kind == "untrained"}
    assert found == {(student, seed) for student in design.students for seed in design.seeds}


@designs
def test_every_arm_is_trained(design: Design):
    assert set(design.arms()) == set(ARMS)
    assert {job.name for job in design.jobs() if job.kind == "train"} == set(ARMS)


def test_the_designs_are_as_large_as_promised():
    assert len(quick().seeds) >= 3
    assert {setting.rows for setting in quick().settings()} == {100, 400}
    assert len(full().students) >= 3
    assert len(full().seeds) >= 5
    assert {setting.rows for setting in full().settings()} >= {50, 1600}
    assert {setting.epochs for setting in full().settings()} == {3, 9, 27}
    assert {setting.lr for setting in full().settings()} == {2e-4, 5e-4, 1e-3}
    assert full().new_predictors


def test_every_recipe_is_known():
    for arm in ARMS.values():
        assert arm.data in RECIPES, arm.name
        assert all(source in RECIPES for source in sources(RECIPES[arm.data]))


def test_the_time_left_comes_from_finished_jobs():
    design = quick()
    jobs = design.jobs()
    assert seconds_left(design, jobs, {}, 1) is None
    trainings = [job for job in jobs if job.kind == "train"]
    small = next(job for job in trainings if job.setting and job.setting.rows == 100)
    large = next(job for job in trainings if job.setting and job.setting.rows == 400)
    alone = seconds_left(design, [large], {small: 10.0}, 1)
    assert alone is not None
    assert 10 < alone < 50
    assert seconds_left(design, [large], {small: 10.0}, 2) == alone / 2
    assert seconds_left(design, [], {small: 10.0}, 2) == 0
