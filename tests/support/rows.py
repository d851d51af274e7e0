"""Rows and runs for tests."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tessy.core.records import Failure, Key, Message, Span, TokenCounts, Trajectory
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import TRAJECTORIES

CONFIG = {"student": {"model": "s"}, "concurrency": 4}
DATA = {"seed": 1, "student.model": "s", "cut": "discard"}


def start(directory: str | Path, **options: Any) -> Run[Key]:
    return Run.open(directory, TRAJECTORIES, **{"config": CONFIG, "data_config": DATA, **options})


def row(
    name: str = "a", sample: int = 0, thinking: str = "Okay. 2 + 2", answer: str = "4", **more: Any
) -> Trajectory:
    return Trajectory(
        id=name,
        sample=sample,
        strategy="tessy",
        messages=(
            Message(role="user", content="2 + 2?"),
            Message(role="assistant", content=f"<think>\n{thinking}\n</think>\n\n{answer}"),
        ),
        thinking=thinking,
        answer=answer,
        spans=(Span(start=0, end=len(thinking), author="student"),),
        tokens=TokenCounts(student=4, answer=1),
        attempts=1,
        seconds=0.5,
        ended_by="student",
        **more,
    )


def failure(name: str = "a", sample: int = 0, reason: Any = "budget", attempts: int = 1) -> Failure:
    kept = row(name, sample).model_dump(exclude={"student_ids", "ended_by", "attempts"})
    return Failure(**kept, attempts=attempts, reason=reason, detail="no room")


def fill(directory: Path, *rows: Trajectory | Failure) -> None:
    async def append() -> None:
        with start(directory) as run:
            for item in rows:
                if isinstance(item, Trajectory):
                    await run.append(item)
                else:
                    await run.append_failure(item)

    asyncio.run(append())


def keys(rows: Iterable[Trajectory | Failure]) -> list[Key]:
    return [item.key for item in rows]
