"""Asking predictors about many drafts and segments at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from tessy.boundary.base import BoundaryPredictor, PredictionRequest
from tessy.boundary.evaluation.drafts import EvaluationDraft, EvaluationSegment
from tessy.boundary.evaluation.metrics import PredictedUnits, Scores

IN_FLIGHT = 256  # views; a classifier makes batches of what waits
Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[int, int], None]  # views answered, of how many


async def judge(
    predictor: BoundaryPredictor,
    segments: Sequence[EvaluationSegment],
    drafts: Sequence[EvaluationDraft],
    tell: Tell,
) -> PredictedUnits:
    """What ``predictor`` says of drafts and whole segments, asked as synthesis asks it.

    Raises:
        ConfigError: A rule of the user's failed.
        EngineError: A classifier did.
    """
    views = [draft.view(predictor.lookahead) for draft in drafts]
    views += [segment.view() for segment in segments]
    done = 0

    async def one(view: PredictionRequest) -> Scores:
        nonlocal done
        try:
            scores = (await predictor.predict(view)).units
        finally:
            predictor.release(view.key)
        done += 1
        tell(done, len(views))
        return scores

    found = await each(views, one, in_flight=IN_FLIGHT)
    for draft, scores in zip(drafts, found, strict=False):
        assert len(scores) >= draft.last - draft.first, "lookahead is how many may be missing"
    return PredictedUnits(found[: len(drafts)], found[len(drafts) :])


async def each(
    items: Sequence[Item], do: Callable[[Item], Awaitable[Result]], *, in_flight: int
) -> list[Result]:
    """What ``do`` makes of each item, in their order; the first error ends it all."""
    found: dict[int, Result] = {}
    left: Iterator[tuple[int, Item]] = iter(enumerate(items))

    async def work() -> None:
        for index, item in left:
            found[index] = await do(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(in_flight, len(items))):
                tasks.create_task(work())
    except BaseExceptionGroup as group:
        error = group.exceptions[0]
        raise error from error.__cause__
    return [found[index] for index in range(len(items))]
