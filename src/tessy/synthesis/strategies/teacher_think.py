"""``teacher-think``: the teacher thinks, the student answers (the paper's Teacher-Think)."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.strategies.base import Strategy, generated_by
from tessy.synthesis.strategies.common import think_then_answer


async def teacher_think(attempt: SampleAttempt) -> Trajectory:
    """Let the teacher think and the student answer.

    Raises:
        SampleFailed: The sample cannot be finished.
    """
    return await think_then_answer(attempt, "teacher")


STRATEGY = Strategy(
    name="teacher-think",
    make=teacher_think,
    models=generated_by("student", "teacher"),
    thinking_by="teacher",
    answer_by="student",
    how="The teacher thinks, and the student answers after that thinking.",
)
