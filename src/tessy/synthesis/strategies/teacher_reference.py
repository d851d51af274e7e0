"""``teacher-reference``: the student answers with the teacher's answer before its eyes.

The paper's Teacher-Reference (self-distillation): what the student reads besides the question is
not in the row. The instruction is our own; the paper does not print one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tessy.core.records import Message, Trajectory
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.text_writer import ResponseWriter

_INSTRUCTION = """{question}

Below is a reference answer to this question. Use it to make sure that you arrive at the right \
result.

<reference>
{answer}
</reference>

Think the question through in your own way and write your own complete answer. Neither your \
thinking nor your answer may mention the reference: write as if you had not seen it."""


def with_reference(messages: Sequence[Message], answer: str) -> tuple[Message, ...]:
    """The question as the student reads it: its last turn with the teacher's answer below."""
    *before, last = messages
    content = _INSTRUCTION.format(question=last.content, answer=answer)
    return (*before, Message(role=last.role, content=content))


async def teacher_reference(desk: SampleAttempt) -> Trajectory:
    """Let the teacher answer, show its answer to the student, and keep what the student writes.

    Raises:
        SampleFailed: The sample cannot be finished; the desk can make its failure row.
    """
    reference = await desk.part(partial(_reference, desk))
    answer = desk.extras["reference_answer"] = reference["answer"]
    shown = with_reference(desk.problem.messages, answer)
    writing = ResponseWriter(desk, shown, ("student",))
    await writing.think("student")
    await writing.answer()
    return desk.trajectory("student")


async def _reference(desk: SampleAttempt) -> Mapping[str, Any]:
    writing = ResponseWriter(
        desk,
        desk.problem.messages,
        ("teacher",),
        answering="teacher",
        label=("reference",),
        aside=True,
    )
    await writing.think("teacher")
    return {"answer": await writing.answer()}
