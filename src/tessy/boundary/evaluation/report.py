"""The report of an evaluation as one JSON document (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from tessy.boundary.cut import kind_of
from tessy.boundary.evaluation.drafts import EvaluationSample
from tessy.boundary.evaluation.metrics import (
    Metrics,
    PairedScores,
    PredictedUnits,
    best_threshold,
    cut_drafts,
    cut_metrics,
    disagreement,
    replay_metrics,
    sweep,
    word_metrics,
)
from tessy.core.statistics import Case, share


@dataclass(frozen=True, slots=True)
class PredictorResult:
    """The results of one predictor or baseline rule."""

    name: str
    kind: str  # `checkpoint`, `lexicon`, `rule` or `marks` (`sentence`, `entropy`)
    predicted: PredictedUnits
    tokens: Metrics | None = None  # of token labels; None without tokens
    details: Mapping[str, Any] = field(default_factory=dict)  # more JSON values for the report


@dataclass(frozen=True, slots=True)
class PredictorPair:
    """The names of the student's predictor and the teacher's, evaluated together."""

    name: str
    student: str
    teacher: str


def short_name(name: str) -> str:
    """Return a name for tables: the last two parts of a path."""
    return "+".join("/".join(Path(part).parts[-2:]) for part in name.split("+"))


def make_report(
    sample: EvaluationSample, results: Sequence[PredictorResult], pairs: Sequence[PredictorPair]
) -> dict[str, Any]:
    """Compute all metrics of the predictors and of the pairs, as JSON values."""
    by_name = {result.name: result for result in results}
    return {
        "data": _data(sample),
        "predictors": [_predictor(sample, result) for result in results],
        "cuts": [_pair(sample, by_name, pair) for pair in pairs],
        "pairs": [
            {"first": first.name, "second": second.name}
            | _as_json(disagreement(sample, first.predicted, second.predicted))
            for first, second in combinations(results, 2)
            if "marks" not in (first.kind, second.kind)
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
        **_as_json({kind: share(Case(q, k == kind) for q, k in words) for kind in kinds}),
    }


def _predictor(sample: EvaluationSample, result: PredictorResult) -> dict[str, Any]:
    words = word_metrics(sample, result.predicted)
    return {
        "name": result.name,
        "kind": result.kind,
        # Baseline rules predict boundaries but no classes.
        "words": None if result.kind == "marks" else _as_json(words),
        "tokens": None if result.tokens is None else _as_json(result.tokens),
        **result.details,
    }


def _pair(
    sample: EvaluationSample, by_name: Mapping[str, PredictorResult], pair: PredictorPair
) -> dict[str, Any]:
    scores = PairedScores(by_name[pair.student].predicted, by_name[pair.teacher].predicted)
    cuts = cut_drafts(sample, scores)
    students = [row for row in cuts if row.draft.author == "student"]
    teachers = [row for row in cuts if row.draft.author == "teacher"]
    graded = scores.student.graded or scores.teacher.graded
    by_threshold = sweep(sample, scores) if graded else []
    return {
        "name": pair.name,
        "student": pair.student,
        "teacher": pair.teacher,
        "all": _as_json(cut_metrics(cuts)),
        "style_to_capability": _as_json(cut_metrics(students)),
        "capability_to_style": _as_json(cut_metrics(teachers)),
        "replay": _as_json(replay_metrics(sample, scores)),
        "sweep": [
            {"threshold": threshold} | _as_json(metrics) for threshold, metrics in by_threshold
        ],
        "best_threshold": best_threshold(by_threshold),
    }


def _as_json(metrics: Metrics) -> dict[str, Any]:
    return {name: estimate and estimate._asdict() for name, estimate in metrics.items()}
