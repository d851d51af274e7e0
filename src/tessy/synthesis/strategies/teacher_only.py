"""``teacher-only``: plain distillation (the paper's Teacher-Only)."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.strategies.base import Strategy, generated_by
from tessy.synthesis.strategies.common import think_then_answer


async def teacher_only(attempt: SampleAttempt) -> Trajectory:
    """Let the teacher think and answer.

    Raises:
        SampleFailed: The sample cannot be finished.
    """
    return await think_then_answer(attempt, "teacher")


STRATEGY = Strategy(
    name="teacher-only",
    make=teacher_only,
    models=generated_by("teacher"),
    thinking_by="teacher",
    answer_by="teacher",
    how="The teacher's own response, whole: plain distillation.",
)
