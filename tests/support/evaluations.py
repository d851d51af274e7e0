"""Runs of evaluations for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tessy.core.records import Evaluation, EvaluationOutcome, Failure, Message, Span, TokenCounts
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import EVALUATIONS

DATA = {"model": "m", "benchmark": "gsm8k", "sampling.temperature": 0.6}


def judged(
    name: str = "a", sample: int = 0, outcome: EvaluationOutcome = "correct", **more: Any
) -> Evaluation:
    """Return a judged response to the problem ``<name>?``."""
    return Evaluation(**{
        "id": name,
        "sample": sample,
        "strategy": "sample",
        "messages": (
            Message(role="user", content=f"{name}?"),
            Message(role="assistant", content="<think>\nOkay.\n</think>\n\n4"),
        ),
        "thinking": "Okay.",
        "answer": "4",
        "spans": (Span(start=0, end=5, author="student"),),
        "tokens": TokenCounts(student=2, answer=1),
        "attempts": 1,
        "seconds": 0.5,
        "outcome": outcome,
        "final_answer": "4",
        "reference": "4",
        "judge": "exact 1",
        **more,
    })  # fmt: skip


def write_evaluation(
    directory: Path,
    *rows: Evaluation | Failure,
    data: Mapping[str, Any] = DATA,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a run with these rows; ``facts`` are the options of its session. Return its path."""

    async def append() -> None:
        with Run.open(directory, EVALUATIONS, config=dict(facts), data_config=data) as run:
            for row in rows:
                if isinstance(row, Evaluation):
                    await run.append(row)
                else:
                    await run.append_failure(row)

    asyncio.run(append())
    return directory
