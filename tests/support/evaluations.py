"""Rows and runs of evaluations for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tessy.core.records import Evaluation, Failure, Message
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import EVALUATIONS
from tests.support import rows

LETTERS: Mapping[str, dict[str, Any]] = {
    "+": {"outcome": "correct", "final_answer": "4"},
    "-": {"outcome": "wrong", "final_answer": "5"},
    "t": {"outcome": "truncated", "reason": "budget", "detail": "the thinking reached 9 tokens"},
    "l": {"outcome": "truncated", "reason": "repetition", "detail": "a loop"},
    "m": {"outcome": "no_answer", "reason": "eos_in_thinking", "detail": "it ended its turn"},
    "e": {"outcome": "no_answer", "reason": "empty_answer", "detail": "no answer"},
    "n": {"outcome": "no_answer", "detail": "no final answer"},
    "j": {"outcome": "judge_error", "detail": "killed"},
}


def evaluation(name: str, sample: int, letter: str, question: str = "2 + 2?") -> Evaluation:
    """Return a row with the outcome of a letter of LETTERS."""
    kept = rows.row(name, sample).model_dump(exclude={"student_ids", "ended_by", "messages"})
    messages = (Message(role="user", content=f"{name}: {question}"),)
    return Evaluation(
        **{**kept, "strategy": "evaluate"},
        messages=messages,
        reference="4",
        judge="maths 1",
        rule="number",
        **LETTERS[letter],
    )


def evaluations(outcomes: Mapping[str, str]) -> list[Evaluation]:
    """Return a row for each letter; the letters of an id are its samples."""
    return [
        evaluation(name, sample, letter)
        for name, letters in outcomes.items()
        for sample, letter in enumerate(letters)
    ]


def write_evaluation(
    directory: Path, found: Sequence[Evaluation], failures: Sequence[Failure] = (), **data: Any
) -> Path:
    """Write a run of `tessy evaluate`."""
    known = {"benchmark": "sums.jsonl", "benchmark.digest": "0" * 16, "model": directory.name}
    known |= {"judge": "maths 1", "command": "evaluate", "author": "student", **data}

    async def append(run: Run[Any]) -> None:
        for row in found:
            await run.append(row)
        for failure in failures:
            await run.append_failure(failure)

    with Run.open(directory, EVALUATIONS, config={}, data_config=known) as run:
        asyncio.run(append(run))
    return directory
