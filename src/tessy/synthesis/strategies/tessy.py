"""How a sample is made: coroutines from a question to a trajectory.

``tessy`` is the paper's method: both models write the thinking in turns, and the student writes
the answer (arXiv 2604.14164, Algorithm 1). The others are what it is compared with, in the paper
and here; ``sample`` is one model's own response. Whatever a teacher writes is kept in the
student's format and tokens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from tessy.core.records import Author, Trajectory, other
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.shared_thinking import AuthoredText, RoleSpec
from tessy.synthesis.strategies.teacher_reference import teacher_reference
from tessy.synthesis.strategies.teacher_score import teacher_score
from tessy.synthesis.text_writer import ResponseWriter

Strategy = Callable[[SampleAttempt], Awaitable[Trajectory]]


async def tessy(desk: SampleAttempt) -> Trajectory:
    """Think together, then let the student answer (or, as an ablation, the teacher).

    Raises:
        SampleFailed: The sample cannot be finished; the desk can make its failure row.
    """
    writing = ResponseWriter(desk, desk.problem.messages, ("student", "teacher"))
    machine = Cooperation(
        _party(desk, "student", writing),
        _party(desk, "teacher", writing),
        key=desk.key,
        thinking_tokens=writing.limits.thinking,
        seed=desk.seed,
        cut=desk.room.cut,
    )
    if desk.saved is not None:
        state, pieces = desk.saved
        machine.restore(state["thinking"], map(AuthoredText.from_json, pieces))
    done = await desk.think(machine)
    await writing.answer()
    return desk.trajectory(done.ended_by)


async def alone(desk: SampleAttempt) -> Trajectory:
    """Let one model think and answer.

    Raises:
        SampleFailed: The sample cannot be finished; the desk can make its failure row.
    """
    return await _written_by(desk, desk.room.answering)


async def handed_over(desk: SampleAttempt) -> Trajectory:
    """Let one model think, and the other one answer.

    Raises:
        SampleFailed: The sample cannot be finished; the desk can make its failure row.
    """
    return await _written_by(desk, other(desk.room.answering))


# The names are the paper's (its section on baselines), but for `sample`.
STRATEGIES: Mapping[str, Strategy] = {
    "tessy": tessy,
    "sample": alone,
    "student-only": alone,
    "teacher-only": alone,
    "teacher-think": handed_over,
    "teacher-answer": handed_over,
    "teacher-score": teacher_score,
    "teacher-reference": teacher_reference,
}


async def _written_by(desk: SampleAttempt, thinker: Author) -> Trajectory:
    authors = dict.fromkeys((thinker, desk.room.answering))
    writing = ResponseWriter(desk, desk.problem.messages, tuple(authors))
    await writing.think(thinker)
    await writing.answer()
    return desk.trajectory(thinker)


def _party(desk: SampleAttempt, author: Author, writing: ResponseWriter) -> RoleSpec:
    seat = desk.room.seats[author]
    return RoleSpec(
        codec=seat.renderer.codec,
        prompt=writing.prompts[author],
        stop_ids=seat.renderer.thinking_stop_ids,
        request_tokens=seat.request_tokens,
        room_tokens=writing.limits.room[author],
        sees_next=desk.room.predictors[author].sees_next,
        redraws=seat.sampling.temperature > 0,
    )
