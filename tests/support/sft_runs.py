"""Runs in the bundled student's format to fine-tune it on, without generating them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random
from typing import Any

from tessy.config.training import SftConfig
from tessy.core.records import Message, Span, TokenCounts, Trajectory
from tessy.lab.bundled import student_path
from tessy.lab.styles import STUDENT
from tessy.lab.tasks import make_problem, write_trace
from tessy.synthesis.setup import formats
from tessy.tokenization.families import load_renderer
from tessy.training.token_file import TokenFile, read_tokens
from tests.lab.test_demo import finish
from tests.support.rows import start

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def sample(number: int) -> Trajectory:
    """Return a sample whose length varies; each author wrote half of its thinking."""
    rng = Random(number)
    traces = [
        write_trace(make_problem("calc", rng), (STUDENT,), rng) for _ in range(1 + number % 3)
    ]
    thinking = " ".join(trace.thinking for trace in traces)
    half = thinking.index(" ", len(thinking) // 2)
    text = f"<think>\n{thinking}\n</think>\n\nIt is {number}."
    return Trajectory(
        id=f"p-{number}",
        sample=0,
        strategy="tessy",
        messages=(
            Message(role="user", content=f"Problem {number}?"),
            Message(role="assistant", content=text),
        ),
        thinking=thinking,
        answer=f"It is {number}.",
        spans=(
            Span(start=0, end=half, author="student"),
            Span(start=half, end=len(thinking), author="teacher"),
        ),
        tokens=TokenCounts(student=1, teacher=1, answer=1),
        attempts=1,
        seconds=0.5,
        ended_by="student",
    )


def sft_run(directory: Path, count: int = 13) -> Path:
    """Write a run of ``count`` samples."""
    renderer = load_renderer(student_path())
    data = {"student.model": str(student_path()), **formats({"student": renderer})}

    async def append() -> None:
        with start(directory, config={}, data_config=data) as run:
            for number in range(count):
                await run.append(sample(number))

    asyncio.run(append())
    return directory


def token_file(run: Path, *more: str, max_tokens: int | None = None) -> TokenFile:
    """Export a run and return the file of its token ids."""
    finish(["tessy", "export", str(run), "--to", "tokens", *more])
    return read_tokens(run / "export" / "tokens.parquet", max_tokens)


def quick_config(data: Path, out: Path, **more: Any) -> SftConfig:
    """Return options for two short epochs; tokens of the teacher count half."""
    defaults: dict[str, Any] = {
        "epochs": 2,
        "batch": 4,
        "learning_rate": 1e-3,
        "loss": "student=1,teacher=0.5",
    }
    return SftConfig(data=data, out=out, **(defaults | more))


def command(config: SftConfig) -> list[str]:
    """Return the command line with the options in ``config`` that are set."""
    words = ["sft", str(config.data)]
    options = config.model_dump(exclude={"data"}, exclude_unset=True, exclude_none=True)
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}={value}")
    return words


def sft(data: Path, out: Path, *, code: int = 0, **options: Any) -> str:
    """Run the command in this process with quick options; return its output."""
    return finish(["tessy", *command(quick_config(data, out, **options))], code)
