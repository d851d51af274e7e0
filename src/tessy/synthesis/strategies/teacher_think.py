"""``teacher-think``: the teacher thinks, the student answers (the paper's Teacher-Think)."""

from __future__ import annotations

from tessy.synthesis.strategies.base import Strategy, generated_by, think_then_answer

STRATEGY = Strategy(
    name="teacher-think",
    make=think_then_answer("teacher"),
    models=generated_by("student", "teacher"),
    thinking_by="teacher",
    answer_by="student",
    how="The teacher thinks, and the student answers after that thinking.",
)
