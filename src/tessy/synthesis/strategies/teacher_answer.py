"""``teacher-answer``: the student thinks, the teacher answers (the paper's Teacher-Answer)."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.strategies.base import Strategy, generated_by
from tessy.synthesis.strategies.common import think_then_answer


async def teacher_answer(attempt: SampleAttempt) -> Trajectory:
    """Let the student think and the teacher answer.

    Raises:
        SampleFailed: The sample cannot be finished.
    """
    return await think_then_answer(attempt, "student")


STRATEGY = Strategy(
    name="teacher-answer",
    make=teacher_answer,
    models=generated_by("student", "teacher"),
    thinking_by="student",
    answer_by="teacher",
    how="The student thinks, and the teacher answers after that thinking.",
)
