"""``evaluate``: one model's own response, made by ``tessy evaluate`` to be judged."""

from __future__ import annotations

from tessy.synthesis.strategies.base import Strategy, generated_by, think_then_answer

STRATEGY = Strategy(
    name="evaluate",
    make=think_then_answer(None, may_be_empty=True),  # its answer may be correct all the same
    models=generated_by(),  # `tessy evaluate` has its own option
    thinking_by="one model",
    answer_by=None,
    how="One model's own response to a problem of a benchmark (`tessy evaluate`).",
)
