"""``teacher-only``: plain distillation (the paper's Teacher-Only)."""

from __future__ import annotations

from tessy.synthesis.strategies.base import Strategy, generated_by, think_then_answer

STRATEGY = Strategy(
    name="teacher-only",
    make=think_then_answer("teacher"),
    models=generated_by("teacher"),
    thinking_by="teacher",
    answer_by="teacher",
    how="The teacher's own response: plain distillation.",
)
