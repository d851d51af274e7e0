"""Steps that several strategies share."""

from __future__ import annotations

from tessy.core.records import Author, Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.response_writer import ResponseWriter


async def think_then_answer(attempt: SampleAttempt, thinker: Author) -> Trajectory:
    """Let ``thinker`` write the thinking alone, and the answering model the answer.

    Raises:
        SampleFailed: The sample cannot be finished.
    """
    authors = dict.fromkeys((thinker, attempt.context.answering))
    writer = ResponseWriter(attempt, attempt.problem.messages, tuple(authors))
    await writer.think(thinker)
    await writer.answer()
    return attempt.trajectory(thinker)
