"""``teacher-reference``: the student reads the teacher's answer, then writes its own response.

The paper's Teacher-Reference (self-distillation): what the student reads besides the problem is
not in the row. The instruction is our own; the paper does not print one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tessy.core.records import Message, Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.response_writer import ResponseWriter
from tessy.synthesis.strategies.base import Strategy, aside_by_teacher, generated_by

_INSTRUCTION = """{question}

Below is a reference answer to this question. Use it to make sure that you arrive at the right \
result.

<reference>
{answer}
</reference>

Think the question through in your own way and write your own complete answer. Neither your \
thinking nor your answer may mention the reference: write as if you had not seen it."""


def with_reference(messages: Sequence[Message], answer: str) -> tuple[Message, ...]:
    """Return the problem as the student reads it: its last turn with the answer below."""
    *before, last = messages
    content = _INSTRUCTION.format(question=last.content, answer=answer)
    return (*before, Message(role=last.role, content=content))


async def teacher_reference(attempt: SampleAttempt) -> Trajectory:
    """Let the teacher answer, show its answer to the student, and keep what the student writes."""
    reference = await attempt.part(partial(_reference, attempt))
    answer = attempt.extras["reference_answer"] = reference["answer"]
    writer = ResponseWriter(attempt, with_reference(attempt.problem.messages, answer), ("student",))
    await writer.think("student")
    await writer.answer()
    return attempt.trajectory("student")


async def _reference(attempt: SampleAttempt) -> Mapping[str, Any]:
    messages = attempt.problem.messages
    return {"answer": await aside_by_teacher(attempt, messages, ("reference",))}


STRATEGY = Strategy(
    name="teacher-reference",
    make=teacher_reference,
    models=generated_by("student", "teacher"),
    thinking_by="student",
    answer_by="student",
    how="The student reads the teacher's answer as a reference, then thinks and answers in its own "
    "words; the sample does not show the reference (self-distillation).",
)
