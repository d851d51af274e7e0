"""All figures of an evaluation as one JSON document (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from tessy.boundary.cut import kind_of
from tessy.boundary.evaluation.drafts import EvaluationSample
from tessy.boundary.evaluation.metrics import (
    Cutting,
    Figures,
    Pair,
    PredictedUnits,
    best_threshold,
    cut_figures,
    cuttings,
    disagreement,
    replay_figures,
    replays,
    sweep,
    word_figures,
)
from tessy.core.statistics import Case, share


@dataclass(frozen=True, slots=True)
class Measured:
    """One predictor, or rule.

    Attributes:
        name: As the user wrote it.
        kind: ``checkpoint``, ``lexicon``, ``rule`` or ``marks`` (``sentence``, ``entropy``).
        judged: What it said.
        tokens: How it labels tokens; None if it has none.
        more: What else is to be told of it, as JSON values.
    """

    name: str
    kind: str
    judged: PredictedUnits
    tokens: Figures | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """Whose cuts are measured: the student's predictor and the teacher's."""

    name: str
    student: str
    teacher: str


def short_name(name: str) -> str:
    """A name for a table: of a path its last two parts."""
    return "+".join("/".join(Path(part).parts[-2:]) for part in name.split("+"))


def make_report(
    sample: EvaluationSample, measured: Sequence[Measured], entries: Sequence[Entry]
) -> dict[str, Any]:
    """Every figure, as JSON values.

    Args:
        sample: Segments and drafts.
        measured: Every predictor, once.
        entries: Who cuts what.
    """
    by_name = {one.name: one for one in measured}
    return {
        "data": _data(sample),
        "predictors": [_predictor(sample, one) for one in measured],
        "cuts": [_entry(sample, by_name, entry) for entry in entries],
        "pairs": [
            {"first": one.name, "second": two.name}
            | _plain(disagreement(sample.segments, one.judged, two.judged, sample.cut))
            for one, two in combinations(measured, 2)
            if "marks" not in (one.kind, two.kind)
        ],
    }


def _data(sample: EvaluationSample) -> dict[str, Any]:
    words = [
        (segment.question, kind_of(truth, sample.cut))
        for segment in sample.segments
        for truth in segment.truth[1:]
    ]
    kinds = ("style", "capability", "mixed")
    return {
        "segments": len(sample.segments),
        "questions": len({segment.question for segment in sample.segments}),
        "words": len(words),
        **_plain({kind: share(Case(q, k == kind) for q, k in words) for kind in kinds}),
    }


def _predictor(sample: EvaluationSample, one: Measured) -> dict[str, Any]:
    words = word_figures(sample.segments, one.judged.segments, sample.cut)
    return {
        "name": one.name,
        "kind": one.kind,
        # A rule that knows places and no classes is not asked for them.
        "words": None if one.kind == "marks" else _plain(words),
        "tokens": None if one.tokens is None else _plain(one.tokens),
        **one.more,
    }


def _entry(
    sample: EvaluationSample, by_name: Mapping[str, Measured], entry: Entry
) -> dict[str, Any]:
    pair = Pair(by_name[entry.student].judged, by_name[entry.teacher].judged)
    rows = cuttings(sample.drafts, pair, sample.cut)
    swept = []
    if pair.student.graded or pair.teacher.graded:
        swept = sweep(sample.segments, sample.drafts, pair, sample.cut)
    played = replays(sample.segments, pair, sample.cut)
    return {
        "name": entry.name,
        "student": entry.student,
        "teacher": entry.teacher,
        "all": _plain(cut_figures(rows)),
        "style_to_capability": _plain(cut_figures(_by(rows, "student"))),
        "capability_to_style": _plain(cut_figures(_by(rows, "teacher"))),
        "replay": _plain(replay_figures(sample.segments, played, sample.cut)),
        "sweep": [{"threshold": threshold} | _plain(figures) for threshold, figures in swept],
        "best_threshold": best_threshold(swept),
    }


def _by(rows: Sequence[Cutting], author: str) -> list[Cutting]:
    return [row for row in rows if row.draft.author == author]


def _plain(figures: Figures) -> dict[str, Any]:
    return {name: one and one._asdict() for name, one in figures.items()}
