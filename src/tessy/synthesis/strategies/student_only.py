"""``student-only``: the student's own response."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.strategies.base import Strategy, generated_by
from tessy.synthesis.strategies.common import think_then_answer


async def student_only(attempt: SampleAttempt) -> Trajectory:
    """Let the student think and answer.

    Raises:
        SampleFailed: The sample cannot be finished.
    """
    return await think_then_answer(attempt, "student")


STRATEGY = Strategy(
    name="student-only",
    make=student_only,
    models=generated_by("student"),
    thinking_by="student",
    answer_by="student",
    how="The student's own response, whole.",
)
