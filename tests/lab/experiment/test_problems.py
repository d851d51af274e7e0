"""Problems and questions of the experiment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tessy.lab.experiment.design import Design, Setting, Trainings, quick
from tessy.lab.experiment.problems import content, read_problem, write_files
from tessy.lab.tasks import solve


def read(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(folder: Path, design: Design):
    folder.mkdir()
    write_files(folder / "problems.jsonl", folder / "questions.jsonl", design)
    return read(folder / "problems.jsonl"), read(folder / "questions.jsonl")


def test_no_question_is_a_training_problem_in_any_wording(tmp_path):
    problems, questions = write(tmp_path / "a", quick())
    assert len(problems) == 400
    assert {task: sum(q["task"] == task for q in questions) for task in quick().questions} == (
        quick().questions
    )
    contents = [
        {(row["task"], content(read_problem(row["prompt"], row))) for row in rows}
        for rows in (problems, questions)
    ]
    assert [len(each) for each in contents] == [len(problems), len(questions)]
    assert not contents[0] & contents[1]


def test_fewer_problems_are_the_first_ones_of_more(tmp_path):
    few = Trainings(("tessy",), (Setting(50, 9, 2e-4),), (0,))
    fewer = replace(quick(), trainings=(few,))
    small, first = write(tmp_path / "a", fewer)
    large, second = write(tmp_path / "b", quick())
    assert small == large[:50]
    assert first == second


def test_the_target_comes_first_and_references_are_correct(tmp_path):
    _, questions = write(tmp_path / "a", quick())
    assert [row["task"] for row in questions[:300]] == ["calc"] * 300
    for row in questions:
        assert solve(read_problem(row["prompt"], row)) == row["reference"]
