"""Asking predictors about many drafts and segments at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from tessy.boundary.base import BoundaryPredictor, View
from tessy.boundary.evaluation.metrics import Judged, Scores
from tessy.boundary.evaluation.segments import Draft, Segment

IN_FLIGHT = 256  # views; a classifier makes batches of what waits
Tell = Callable[[int, int], None]  # views answered, of how many


async def judge(
    predictor: BoundaryPredictor,
    segments: Sequence[Segment],
    drafts: Sequence[Draft],
    tell: Tell,
) -> Judged:
    """What ``predictor`` says of drafts and whole segments, asked as synthesis asks it.

    Raises:
        ConfigError: A rule of the user's failed.
        EngineError: A classifier did.
    """
    views = [draft.view(predictor.lookahead) for draft in drafts]
    views += [segment.view() for segment in segments]
    found = await _answers(predictor, views, tell)
    for draft, scores in zip(drafts, found, strict=False):
        assert len(scores) >= draft.last - draft.first, "lookahead is how many may be missing"
    return Judged(found[: len(drafts)], found[len(drafts) :])


async def _answers(predictor: BoundaryPredictor, views: Sequence[View], tell: Tell) -> list[Scores]:
    found: list[Scores] = [()] * len(views)
    left: Iterator[tuple[int, View]] = iter(enumerate(views))
    done = 0

    async def work() -> None:
        nonlocal done
        for index, view in left:
            try:
                found[index] = (await predictor.judge(view)).units
            finally:
                predictor.release(view.key)
            done += 1
            tell(done, len(views))

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(IN_FLIGHT, len(views))):
                tasks.create_task(work())
    except BaseExceptionGroup as group:
        error = group.exceptions[0]
        raise error from error.__cause__
    return found
