"""``sample``: one model's own response, made by ``tessy sample``."""

from __future__ import annotations

from tessy.core.records import Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.strategies.base import Strategy, generated_by
from tessy.synthesis.strategies.common import think_then_answer


async def sample(attempt: SampleAttempt) -> Trajectory:
    """Let one model think and answer.

    Raises:
        SampleFailed: The sample cannot be finished.
    """
    return await think_then_answer(attempt, attempt.context.answering)


STRATEGY = Strategy(
    name="sample",
    make=sample,
    models=generated_by(),  # `tessy sample` has its own option
    thinking_by="one model",
    answer_by=None,
    how="One model's own response, in its own format and tokens (`tessy sample`).",
)
