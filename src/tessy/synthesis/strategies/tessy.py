"""``tessy``: both models write the thinking in turns, the student writes the answer.

Source: arXiv 2604.14164, Algorithm 1. The teacher's answer (``answer_by``) is the paper's ablation.
"""

from __future__ import annotations

from tessy.core.records import Author, Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.response_writer import ResponseWriter
from tessy.synthesis.shared_thinking import RoleSpec
from tessy.synthesis.strategies.base import Strategy, generated_by


async def tessy(attempt: SampleAttempt) -> Trajectory:
    """Write the thinking in turns, then the answer."""
    writer = ResponseWriter(attempt, attempt.problem.messages, ("student", "teacher"))
    cooperation = Cooperation(
        _role(attempt, "student", writer),
        _role(attempt, "teacher", writer),
        key=attempt.key,
        thinking_tokens=writer.limits.thinking,
        seed=attempt.seed,
        cut=attempt.context.cut,
    )
    done = await attempt.think(cooperation)
    await writer.answer()
    return attempt.trajectory(done.ended_by)


def _role(attempt: SampleAttempt, author: Author, writer: ResponseWriter) -> RoleSpec:
    backend = attempt.context.backends[author]
    return RoleSpec(
        codec=backend.renderer.codec,
        prompt=writer.prompts[author],
        stop_ids=backend.renderer.thinking_stop_ids,
        request_tokens=backend.request_tokens,
        room_tokens=writer.limits.available[author],
        sees_next=attempt.context.predictors[author].sees_next,
        redraws=backend.sampling.temperature > 0,
    )


STRATEGY = Strategy(
    name="tessy",
    make=tessy,
    models=generated_by("student", "teacher"),
    thinking_by="both",
    answer_by="student",
    how="The two write the thinking in turns: the teacher what solves the task, the student what "
    "is style. The student writes the answer.",
    in_turns=True,
    answers=("student", "teacher"),
    options=frozenset({"answer_by"}),
)
