"""What restyling costs, from the places of a few traces."""

from __future__ import annotations

from collections.abc import Sequence

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.cut import Cut
from tessy.core.formatting import counted
from tessy.core.records import Problem, TeacherTrace
from tessy.synthesis.restyling.split import (
    Place,
    places_of,
    split_request,
    style_by_scores,
    style_by_spans,
)

SAMPLE_TRACES = 20


def splitter_name(trace: TeacherTrace, predictor: BoundaryPredictor) -> str:
    """Return the name of what classifies a trace: its annotation takes precedence."""
    return "annotation" if trace.style is not None else predictor.name


async def split(
    key: str, trace: TeacherTrace, predictor: BoundaryPredictor, cut: Cut
) -> list[Place]:
    """Return the places of a trace."""
    request = split_request(key, trace.thinking)
    if trace.style is not None:
        return places_of(request, style_by_spans(request, trace.style))
    scores = (await predictor.predict(request)).units
    return places_of(request, style_by_scores(request, scores, cut))


async def expected_cost(
    problems: Sequence[Problem], predictor: BoundaryPredictor, cut: Cut, candidates: int
) -> str:
    """Return a sentence on the requests of a trace, estimated from the first ones."""
    traces = [(p.id, p.trace) for p in problems[:SAMPLE_TRACES] if p.trace is not None]
    counts = []
    for key, trace in traces:
        places = await split(key, trace, predictor, cut)
        counts.append(sum(bool(place.style and place.capability) for place in places))
        predictor.release(key)
    mean = sum(counts) / max(1, len(counts))
    drafts = f"{mean * candidates:,.0f} drafts"
    scores = f" and {mean * (candidates + 1):,.0f} scores" if candidates > 1 else ""
    return (
        f"{mean:,.1f} places a trace ({counted(len(counts), 'trace')} split), "
        f"{counted(candidates, 'candidate')} a place: about {drafts}{scores} a trace; a place "
        "where no candidate fits takes more"
    )
