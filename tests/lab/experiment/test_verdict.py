"""The sentence on the paper's claim follows the numbers, whatever they are."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean

import pytest

from tessy.core.statistics import crossed_mean
from tessy.lab.experiment.arms import CROSSED, DISTANCES, TEACHER_ONLY, TESSY, UNTRAINED, UPPER
from tessy.lab.experiment.design import Design, LabJob, Setting, Trainings, quick
from tessy.lab.experiment.gate import reason_to_refuse
from tessy.lab.experiment.results import LabResults
from tessy.lab.experiment.tables import claim, estimate_cell, scores
from tessy.lab.experiment.verdict import (
    comparison,
    of_each_student,
    orderings,
    parts_sentence,
    sentence,
)
from tessy.reports.compare.sections import Cell

QUESTIONS = 200
SETTINGS = (Setting(100, 9, 2e-4), Setting(400, 9, 2e-4), Setting(1600, 9, 2e-4))


def answers(count: int) -> dict[str, list[bool]]:
    """Return correct answers to the first ``count`` questions."""
    return {"calc": [n < count for n in range(QUESTIONS)]}


def results(*scores: tuple[int, int], student: int = 100) -> LabResults:
    """Return results with the correct answers of teacher-only and tessy by N."""
    settings = SETTINGS[: len(scores)]
    design = Design(
        students=(0,),
        trainings=(Trainings((TEACHER_ONLY, TESSY), settings, (0, 1)),),
        questions={"calc": QUESTIONS},
    )
    by_id = {}
    for seed in design.seeds:
        by_id[LabJob("untrained", 0, seed=seed).id] = {"correct": answers(student)}
        for setting, pair in zip(settings, scores, strict=True):
            for arm, count in zip((TEACHER_ONLY, TESSY), pair, strict=True):
                job = LabJob("train", 0, arm, setting, seed)
                by_id[job.id] = {"correct": answers(count + seed)}
    return LabResults(design, by_id)


HELD = "Teacher-Only < student < TESSY held at N = "


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (((50, 150),), HELD + "100."),
        (((50, 150), (60, 150)), HELD + "100 and 400."),
        (((50, 150), (60, 150), (70, 150)), HELD + "100, 400 and 1,600."),
        (
            ((50, 150), (150, 180), (160, 180)),
            HELD + "100; it did not hold at N = 400 and 1,600, where Teacher-Only was above the "
            "student.",
        ),
        (
            ((150, 50), (50, 150), (99, 150)),
            HELD + "400; it did not hold at N = 100, where Teacher-Only was above the student or "
            "TESSY was below the student; it is undecided at N = 1,600, where an interval "
            "contains 0.",
        ),
        (((99, 150), (99, 99)), "TESSY is undecided at N = 100 and 400, where an interval"),
        (((50, 99),), "TESSY is undecided at N = 100, where an interval contains 0."),
        (((50, 60),), "TESSY did not hold at N = 100, where TESSY was below the student."),
        (((99, 60),), "TESSY did not hold at N = 100, where TESSY was below the student."),
    ],
)
def test_the_sentence(scores, expected):
    found = sentence(results(*scores))
    assert found.startswith("In this run, by 95 % intervals for other seeds and questions, Teach")
    assert expected in found


def test_tessy_is_compared_with_teacher_only():
    found = results((50, 150), (60, 150), (99, 99))
    assert comparison(found) == (
        "TESSY was above Teacher-Only at N = 100 and 400 and within noise of it at N = 1,600. "
        "TESSY was above the untrained student at N = 100 and 400 and within noise of it at "
        "N = 1,600. Teacher-Only was below the untrained student at N = 100 and 400 and within "
        "noise of it at N = 1,600."
    )
    assert comparison(LabResults(quick(), {})) == ""


def test_the_parts_are_stated_if_all_controls_have_scores():
    assert parts_sentence(results((50, 150))) == ""
    arms = {UPPER: 160, CROSSED[0]: 80, CROSSED[1]: 120, DISTANCES[1.0]: 60}
    design = Design(
        students=(0,),
        trainings=(Trainings(tuple(arms), SETTINGS[:1], (0,)),),
        questions={"calc": QUESTIONS},
    )
    by_id = {
        LabJob("train", 0, arm, SETTINGS[0], 0).id: {"correct": answers(count)}
        for arm, count in arms.items()
    }
    by_id[LabJob("untrained", 0).id] = {"correct": answers(100)}
    found = parts_sentence(LabResults(design, by_id))
    assert "of N = 100 problems, the student scored" in found
    assert "only the answers in the teacher's 0.40 (" in found
    assert "only the thinking in the teacher's 0.60 (" in found
    # Of another student, one control is unfinished.
    by_id |= {name.replace("-s0-", "-s1-"): by_id[name] for name in list(by_id)[1:]}
    assert parts_sentence(LabResults(replace(design, students=(0, 1)), by_id)) == ""


def test_without_scores_there_is_no_claim():
    empty = LabResults(quick(), {})
    assert orderings(empty) == []
    assert sentence(empty) == "This run has no scores for the paper's claim yet."


def test_differences_are_to_the_mean_of_all_seeds_by_question():
    found = results((100, 100))
    by_id = dict(found.by_id)
    by_id[LabJob("untrained", 0, seed=1).id] = {"correct": answers(110)}
    trained = LabJob("train", 0, TESSY, SETTINGS[0], 0)
    for present in (by_id, {name: one for name, one in by_id.items() if name != trained.id}):
        difference = LabResults(found.design, present).difference(
            TESSY, UNTRAINED, SETTINGS[0], "calc"
        )
        seeds = [0, 1] if trained.id in present else [1]
        assert difference is not None
        # 100 + seed correct answers, of the untrained student 105 in the mean
        assert difference.value == pytest.approx((fmean(seeds) - 5) / QUESTIONS)
        assert (difference.runs, difference.questions) == (len(seeds), QUESTIONS)
    by_question = [0.0] * 100 + [0.5] + [-0.5] * 9 + [0.0] * 90  # of seed 1
    assert difference == crossed_mean([by_question])


def test_the_variance_of_a_difference_of_two_arms_has_a_part_of_both_trainings():
    found = results((50, 150))
    by_id = dict(found.by_id)
    for seed, count in enumerate((20, 80)):  # teacher-only varies, tessy does not
        by_id[LabJob("train", 0, TEACHER_ONLY, SETTINGS[0], seed).id] = {"correct": answers(count)}
        by_id[LabJob("train", 0, TESSY, SETTINGS[0], seed).id] = {"correct": answers(150)}
    difference = LabResults(found.design, by_id).difference(
        TESSY, TEACHER_ONLY, SETTINGS[0], "calc"
    )
    assert difference is not None
    assert difference.value == pytest.approx(0.5)
    assert difference.spread == pytest.approx(math.sqrt(0.045))  # of 0.35 and 0.65
    assert difference.low < 0  # two trainings that differ so much


def test_each_of_several_students_has_outcomes():
    found = results((50, 150))
    assert of_each_student(found, SETTINGS) == {}
    by_id = {
        name.replace("-s0-", f"-s{student}-"): (
            {"correct": answers(100)} if student and "-tessy-" in name else result
        )
        for name, result in found.by_id.items()
        for student in (0, 1)
    }
    both = LabResults(replace(found.design, students=(0, 1)), by_id)
    (first,), (second,) = of_each_student(both, SETTINGS).values()
    assert first.outcome == "held"
    assert first.scores == pytest.approx((0.2525, 0.5, 0.7525))
    assert (second.outcome, second.tessy) == ("undecided", "within noise of")
    assert "for other students and questions" in sentence(both)
    table = claim(both, SETTINGS[:1])
    ((name, cells),) = table.rows
    assert (table.title, name) == ("The claim by number of problems", "N = 100")
    assert [column.name for column in table.columns][-2:] == ["student 0", "student 1"]
    assert cells[-2:] == [
        Cell("held", "0.25 < 0.50 < 0.75, n = 2"),
        Cell("undecided", "0.25, 0.50, 0.50, n = 2"),
    ]
    assert cells[0].note.endswith("n = 2 × 2")
    assert len(claim(found, SETTINGS[:1]).columns) == len(table.columns) - 2


def test_several_students_are_the_runs():
    found = results((100, 100))
    students = (0, 1, 2)
    by_id = {
        f"{key.replace('-s0-', f'-s{student}-')}": {
            "correct": answers(100 + 10 * student + (4 if key.endswith("r1") else -4))
        }
        for key in found.by_id
        for student in students
    }
    score = LabResults(replace(found.design, students=students), by_id).score(
        TESSY, SETTINGS[0], "calc"
    )
    assert score is not None
    assert score.runs == 3
    assert score.value == pytest.approx(110 / QUESTIONS)
    assert score.spread == pytest.approx(10 / QUESTIONS)


def test_arms_without_rows_have_no_ordering():
    found = results((50, 150))
    skipped = LabJob("train", 0, TESSY, SETTINGS[0], 1).id
    by_id = {**found.by_id, skipped: {"skipped": "no sample could be finished"}}
    assert orderings(LabResults(found.design, by_id)) == []


def test_scores_of_some_students_have_no_interval_for_others():
    found = results((50, 150))
    design = replace(found.design, students=(0, 1, 2))
    by_id = dict(found.by_id)
    for name in found.by_id:
        by_id[name.replace("-s0-", "-s1-")] = found.by_id[name]
        if name.startswith("untrained"):
            by_id[name.replace("-s0-", "-s2-")] = found.by_id[name]
    partial = LabResults(design, by_id)
    assert estimate_cell(partial, TESSY, SETTINGS[0], "calc") == Cell(
        "0.752", "2 of 3 students, n = 4"
    )
    assert estimate_cell(partial, UNTRAINED, SETTINGS[0], "calc").note.endswith(", n = 3 × 2")
    rows = dict(scores(partial, "calc", SETTINGS[:1]).rows)
    assert rows[TESSY][1] == Cell("–")


def test_a_setting_with_unfinished_trainings_has_no_ordering():
    found = results((50, 150), (60, 150))
    missing = LabJob("train", 0, TESSY, SETTINGS[1], 1).id
    by_id = {name: result for name, result in found.by_id.items() if name != missing}
    unfinished = LabResults(found.design, by_id)
    assert [one.setting.rows for one in orderings(unfinished)] == [100]
    # Another student without any result: its trainings are missing.
    design = replace(found.design, students=(0, 1))
    assert orderings(LabResults(design, found.by_id)) == []
    assert len(orderings(LabResults(design, found.by_id, left_out=[1]))) == 2


def test_progress_counts_the_jobs_of_all_students_that_are_not_left_out():
    design = quick()
    by_id: dict[str, dict[str, object]] = {job.id: {} for job in design.jobs()[:3]}
    total = len(design.jobs())
    assert LabResults(design, by_id).progress == f"3 of {total} jobs"
    twice = replace(design, students=(0, 1))
    assert LabResults(twice, by_id).progress == f"3 of {len(twice.jobs())} jobs"
    assert LabResults(twice, by_id, left_out=[1]).progress == f"3 of {total} jobs"
    whole = LabResults(design, {job.id: {} for job in design.jobs()})
    assert (whole.progress, whole.is_finished) == (f"{total} jobs", True)


@pytest.mark.parametrize(
    ("calc", "rev", "expected"),
    [
        (0.55, 0.95, None),
        (0.46, 0.91, None),  # within the noise of 100 questions
        (
            0.45,
            1.0,
            "its accuracy is 0.450 on calc (95 %: 0.36–0.55, n = 100), below 0.55",
        ),
        (
            0.2,
            0.5,
            "its accuracy is 0.200 on calc (95 %: 0.13–0.29, n = 100), below 0.55, 0.500 on rev "
            "(95 %: 0.40–0.60, n = 100), below 0.95",
        ),
    ],
)
def test_an_unfit_student_is_refused(calc, rev, expected):
    def some(share: float) -> list[bool]:
        return [n < round(share * 100) for n in range(100)]

    assert reason_to_refuse({"calc": some(calc), "max": some(1), "rev": some(rev)}) == expected
