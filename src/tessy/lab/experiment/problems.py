"""Problems of the training data and questions of the evaluation, which differ from them."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from random import Random
from typing import Any

from tessy.lab.experiment.design import Design
from tessy.lab.tasks import Task, TaskProblem, make_problem, solve
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically

TARGET: Task = "calc"  # the task of the training data

# Identifies a problem, independently of its wording.
Content = tuple[tuple[int, ...], tuple[str, ...]]


def content(problem: TaskProblem) -> Content:
    """Return the content of a problem, which all its wordings share."""
    return problem.digits, problem.operators


def draw(
    task: Task, count: int, rng: Random, exclude: Container[Content] = ()
) -> list[TaskProblem]:
    """Draw ``count`` different problems; a larger count appends to those of a smaller one."""
    found: dict[Content, TaskProblem] = {}
    while len(found) < count:
        problem = make_problem(task, rng)
        if content(problem) not in exclude:
            found.setdefault(content(problem), problem)
    return list(found.values())


def write_files(problems: Path, questions: Path, design: Design) -> None:
    """Write both files; the same design gives the same files."""
    by_task = {
        task: draw(task, count, Random(f"lab/questions/{task}"))
        for task, count in design.questions.items()
    }
    excluded = set(map(content, by_task[TARGET]))
    drawn = draw(TARGET, design.most_rows, Random("lab/problems"), excluded)
    _write(problems, drawn)
    _write(questions, [problem for each in by_task.values() for problem in each])


def _write(path: Path, problems: list[TaskProblem]) -> None:
    rows = (
        {
            "id": f"{problem.task}-{number:04d}",
            "prompt": problem.text,
            "reference": solve(problem),
            "task": problem.task,
            "digits": problem.digits,
            "operators": problem.operators,
        }
        for number, problem in enumerate(problems, 1)
    )
    write_atomically(path, b"".join(map(jsonl.dump_line, rows)))


def first_ids(problems: Path, count: int) -> list[str]:
    """Return the ids of the first ``count`` problems of the file."""
    return [row["id"] for row in _first(problems, count)]


def first_texts(problems: Path, count: int) -> list[str]:
    """Return the texts of the first ``count`` problems of the file."""
    return [row["prompt"] for row in _first(problems, count)]


def _first(problems: Path, count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in problems.read_bytes().splitlines()[:count]]


def read_problem(text: str, fields: Mapping[str, Any]) -> TaskProblem:
    """Return the problem of a row; ``fields`` are the additional fields of its input."""
    return TaskProblem(fields["task"], text, tuple(fields["digits"]), tuple(fields["operators"]))
