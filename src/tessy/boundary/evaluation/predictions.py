"""Running a predictor on many drafts and segments concurrently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tessy.boundary.base import BoundaryPredictor, PredictionRequest
from tessy.boundary.evaluation.drafts import EvaluationSample
from tessy.boundary.evaluation.metrics import PredictedUnits, Scores

IN_FLIGHT = 256  # concurrent requests; a classifier batches them
Item = TypeVar("Item")
Result = TypeVar("Result")


async def predict_all(
    predictor: BoundaryPredictor, sample: EvaluationSample, on_progress: Callable[[int, int], None]
) -> PredictedUnits:
    """Run ``predictor`` on drafts and whole segments, with requests as in synthesis.

    ``on_progress`` is called with the finished and the total number of requests.
    """
    drafts = sample.drafts
    requests = [draft.request(predictor.lookahead) for draft in drafts]
    requests += [segment.request() for segment in sample.segments]
    done = 0

    async def predict(request: PredictionRequest) -> Scores:
        nonlocal done
        try:
            units = (await predictor.predict(request)).units
        finally:
            predictor.release(request.key)
        done += 1
        on_progress(done, len(requests))
        return units

    scores = await gather_limited(requests, predict, in_flight=IN_FLIGHT)
    for draft, units in zip(drafts, scores, strict=False):
        assert len(units) >= len(draft.truth), "more units undecided than `lookahead` allows"
    return PredictedUnits(scores[: len(drafts)], scores[len(drafts) :])


async def gather_limited(
    items: Sequence[Item], function: Callable[[Item], Awaitable[Result]], *, in_flight: int
) -> list[Result]:
    """Apply ``function`` to the items, ``in_flight`` at a time; returns the results in order.

    The first error cancels the rest and is raised.
    """
    limit = asyncio.Semaphore(in_flight)

    async def run(item: Item) -> Result:
        async with limit:
            return await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(item)) for item in items]
    except BaseExceptionGroup as errors:
        error = errors.exceptions[0]
        raise error from error.__cause__
    return [task.result() for task in tasks]
