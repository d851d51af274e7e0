"""``sample``: one model's own response, made by ``tessy sample``."""

from __future__ import annotations

from tessy.synthesis.strategies.base import Strategy, generated_by, think_then_answer

STRATEGY = Strategy(
    name="sample",
    make=think_then_answer(None),
    models=generated_by(),  # `tessy sample` has its own option
    thinking_by="one model",
    answer_by=None,
    how="One model's own response, in its own format and tokens (`tessy sample`).",
)
