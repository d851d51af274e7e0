"""Designs: the same budget for every arm, and an order in which jobs can be done."""

from __future__ import annotations

import pytest

from tessy.lab.experiment.arms import ARMS, CROSSED, DISTANCES, TEACHER_ONLY, TESSY, UPPER
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
def test_the_trainings_are_those_of_the_design(design: Design):
    jobs = [job for job in design.jobs() if job.kind == "train"]
    for arm in design.arms():
        for setting in design.settings():
            found = [
                (job.student, job.seed) for job in jobs if (job.name, job.setting) == (arm, setting)
            ]
            seeds = design.seeds_of(arm, setting)
            assert sorted(found) == [(s, seed) for s in design.students for seed in seeds]
            assert bool(found) == (setting in design.settings(arm))


@designs
def test_the_arms_of_the_claim_have_every_size_and_every_seed_at_first(design: Design):
    sizes = {setting for setting in design.settings() if (setting.epochs, setting.lr) == (9, 2e-4)}
    for arm in (TEACHER_ONLY, TESSY, UPPER):
        assert sizes <= set(design.settings(arm))
        assert design.seeds_of(arm, design.first_setting) == design.seeds
    assert set(design.main_arms()) == {TEACHER_ONLY, TESSY, *DISTANCES.values(), *CROSSED}


@designs
def test_epochs_are_scored_once_per_student(design: Design):
    scored = [(job.student, job.name) for job in design.jobs() if job.by_epoch]
    assert sorted(scored) == sorted((s, arm) for s in design.students for arm in design.by_epoch)


@designs
def test_data_are_made_for_as_many_problems_as_the_arms_need(design: Design):
    for arm in design.arms():
        if ARMS[arm].on_policy:
            continue
        assert design.rows(ARMS[arm].data) >= max(s.rows for s in design.settings(arm))
    assert design.rows("tessy") == design.most_rows
    assert design.rows("distance-0.5") == 100
    for recipe in design.recipes():
        assert all(design.rows(s) >= design.rows(recipe) for s in sources(RECIPES[recipe]))


def test_what_matters_most_is_trained_first():
    design = full()
    trained = [job for job in design.jobs() if job.kind == "train"]
    sizes = design.sizes()
    claim = [n for n, job in enumerate(trained) if job.name == TESSY and job.setting in sizes]
    assert len(claim) == len(design.students) * sum(len(design.seeds_of(TESSY, s)) for s in sizes)
    assert max(claim) < min(n for n, job in enumerate(trained) if job.name == "restyle-16")


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
    names = {arm.data for arm in ARMS.values()}
    assert {arm.name for arm in ARMS.values() if not arm.data} == {"on-policy"}
    assert names - {""} <= set(RECIPES)
    assert all(source in RECIPES for recipe in RECIPES.values() for source in sources(recipe))


def test_the_time_left_comes_from_finished_jobs():
    design = quick()
    jobs = design.jobs()
    trainings = [job for job in jobs if job.kind == "train" and not job.by_epoch]
    small = next(job for job in trainings if job.setting and job.setting.rows == 100)
    large = next(job for job in trainings if job.setting and job.setting.rows == 400)
    alone = seconds_left(design, [large], {small: 10.0}, 1)
    assert 10 < alone < 50
    assert seconds_left(design, [large], {small: 20.0}, 1) == pytest.approx(2 * alone)
    assert seconds_left(design, [large], {small: 10.0}, 2) == alone / 2
    assert seconds_left(design, [], {small: 10.0}, 2) == 0
    # A kind without a finished job is as fast or slow as the others.
    other = next(job for job in jobs if job.kind == "data")
    before = seconds_left(design, [other], {}, 1)
    factor = alone / seconds_left(design, [large], {}, 1)
    assert seconds_left(design, [other], {small: 10.0}, 1) == pytest.approx(factor * before)
