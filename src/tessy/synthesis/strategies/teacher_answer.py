"""``teacher-answer``: the student thinks, the teacher answers (the paper's Teacher-Answer)."""

from __future__ import annotations

from tessy.synthesis.strategies.base import Strategy, generated_by, think_then_answer

STRATEGY = Strategy(
    name="teacher-answer",
    make=think_then_answer("student"),
    models=generated_by("student", "teacher"),
    thinking_by="student",
    answer_by="teacher",
    how="The student thinks, and the teacher answers after that thinking.",
)
