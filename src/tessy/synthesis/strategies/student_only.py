"""``student-only``: the student's own response."""

from __future__ import annotations

from tessy.synthesis.strategies.base import Strategy, generated_by, think_then_answer

STRATEGY = Strategy(
    name="student-only",
    make=think_then_answer("student"),
    models=generated_by("student"),
    thinking_by="student",
    answer_by="student",
    how="The student's own response.",
)
