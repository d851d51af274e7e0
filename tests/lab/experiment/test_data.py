"""Training data that no command makes: written, repeated and reattributed rows."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tessy.core.records import Message, StudentIds, Trajectory
from tessy.lab.experiment.data import ordered, reauthored, take, written
from tessy.lab.experiment.measure import classes
from tessy.lab.styles import STUDENT, TEACHER
from tessy.lab.tasks import make_problem, solve
from tests.support.run_data import read_run
from tests.support.sft_runs import sft_run


def row(number: int = 0) -> Trajectory:
    problem = make_problem("calc", Random(number))
    thinking, answer = (
        "We need to compute this: 5 - 3 = 2.\nHence 2 * 7 = 4. Verified.",
        "Result: 4.",
    )
    content = f"<think>\n{thinking}\n</think>\n\n{answer}"
    return Trajectory(
        id=f"calc-{number:04d}",
        sample=0,
        strategy="teacher-only",
        messages=(
            Message(role="user", content=problem.text),
            Message(role="assistant", content=content),
        ),
        thinking=thinking,
        answer=answer,
        answer_by="teacher",
        spans=({"start": 0, "end": len(thinking), "author": "teacher"},),
        tokens={},
        attempts=1,
        seconds=1,
        problem={
            "task": "calc",
            "digits": problem.digits,
            "operators": problem.operators,
            "reference": solve(problem),
        },
        student_ids=StudentIds(thinking="", answer=""),
        ended_by="teacher",
    )


@pytest.mark.parametrize("distance", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_a_written_row_is_correct_and_has_the_styles_asked_for(distance):
    teachers = students = 0
    for number in range(60):
        found = written(row(number), distance)
        assert found.problem["reference"] in found.answer
        assert found.messages[-1].content == (
            f"<think>\n{found.thinking}\n</think>\n\n{found.answer}"
        )
        assert found.student_ids is None
        assert found == written(row(number), distance)
        style = "".join(found.thinking[s.start : s.end] for s in found.spans)
        teachers += sum(phrase in style for phrase in TEACHER.openers)
        students += sum(phrase in style for phrase in STUDENT.openers)
    assert teachers + students == 60
    assert teachers / 60 == pytest.approx(distance, abs=0.2)
    assert (teachers == 0) == (distance == 0)
    assert (students == 0) == (distance == 1)


def test_style_by_rule_is_attributed_to_the_student():
    found = reauthored(row())
    parts = [(span.author, found.thinking[span.start : span.end]) for span in found.spans]
    assert parts == [
        ("student", "We need to compute this:"),
        ("teacher", " 5 - 3 = 2."),
        ("student", "\nHence"),
        ("teacher", " 2 * 7 = 4."),
        ("student", " Verified."),
    ]


def test_classes_are_style_and_results_that_were_never_taught():
    one = row()
    assert [(one.thinking[c.start : c.end], c.name) for c in classes(one)] == [
        ("We need to compute this:", "style"),
        ("Hence", "style"),
        ("4", "unknown"),
        ("Verified.", "style"),
    ]


@pytest.mark.parametrize(("count", "distinct"), [(4, 4), (13, 13), (30, 13)])
def test_rows_are_repeated_up_to_the_number_asked_for(tmp_path: Path, count, distinct):
    source = sft_run(tmp_path / "run")
    rows = ordered(source)
    assert len(rows) == 13
    names = [one.id for one in rows][:count]
    assert take(source, tmp_path / "out", names, count) == distinct
    found = read_run(tmp_path / "out").trajectories
    assert len(found) == count
    assert [one.thinking for one in found] == [rows[n % distinct].thinking for n in range(count)]


def test_a_run_without_rows_gives_none(tmp_path: Path):
    source = sft_run(tmp_path / "run")
    assert take(source, tmp_path / "out", ["another"], 5) == 0
    assert read_run(tmp_path / "out").trajectories == ()
