"""Paths of the bundled models, and problems for them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from random import Random

from tessy.core.records import Author, Message, Problem
from tessy.lab.tasks import TaskProblem, make_problem, solve

# The bundled models think in 40 to 120 tokens, so these limits only end loops.
THINKING_TOKENS = 600
ANSWER_TOKENS = 64
_MIN_DIGITS = 4  # 3 to 5 operators, for a thinking of some length


def student_path() -> Path:
    """Return the folder of the bundled student: weights, tokenizer, card."""
    return _folder("student")


def teacher_path() -> Path:
    """Return the folder of the bundled teacher: weights, tokenizer, card."""
    return _folder("teacher")


def model_path(author: Author) -> Path:
    """Return the folder of a bundled model."""
    return student_path() if author == "student" else teacher_path()


def predictor_path(author: Author) -> Path:
    """Return the folder of a bundled boundary predictor: weights, tokenizer, card."""
    return _folder(f"{author}_predictor")


def _folder(name: str) -> Path:
    return Path(str(files("tessy.lab"))) / "models" / name


def demo_problems(count: int, seed: int) -> list[Problem]:
    """Draw ``count`` different ``calc`` problems; ``extra`` holds the reference answer.

    A larger count appends problems to those of a smaller one.
    """
    rng = Random(f"demo/{seed}")
    problems: dict[str, TaskProblem] = {}
    while len(problems) < count:
        problem = make_problem("calc", rng, shortest=_MIN_DIGITS)
        problems.setdefault(problem.text, problem)
    return [
        Problem(
            id=f"calc-{number:04d}",
            messages=(Message(role="user", content=problem.text),),
            extra={"reference": solve(problem), "task": problem.task},
        )
        for number, problem in enumerate(problems.values(), 1)
    ]
