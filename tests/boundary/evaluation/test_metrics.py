"""Metrics of known scores."""

from __future__ import annotations

import pytest

from tessy.boundary.base import UnitScore
from tessy.boundary.evaluation.metrics import (
    Metrics,
    PredictedUnits,
    best_threshold,
    class_metrics,
)
from tessy.core.statistics import Estimate

YES, NO, UNSURE = UnitScore(1, 1, 1), UnitScore(0, 0, 0), UnitScore(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("segments", "graded"),
    [
        ([], False),
        ([(YES, NO), (NO, YES)], False),
        ([(UNSURE, YES, NO)], False),  # the author of a first unit is given, never predicted
        ([(YES, NO), (YES, NO, UNSURE)], True),
        ([(YES, UnitScore(1, 0.9, 1))], True),
    ],
)
def test_scores_are_graded_if_one_after_the_first_is_neither_0_nor_1(segments, graded):
    assert PredictedUnits(drafts=[(UNSURE,)], segments=segments).graded == graded


def estimate(value: float) -> Estimate:
    return Estimate(value, None, None, 1, 1)


@pytest.mark.parametrize(
    ("right", "best"),
    [
        ({}, None),
        ({0.1: 0.5, 0.2: 0.75, 0.9: 0.7}, 0.2),
        ({0.2: 1, 0.3: 1, 0.4: 1, 0.45: 0.5}, 0.4),
        ({0.2: 1, 0.4: 1, 0.55: 1, 0.9: 1}, 0.55),
        ({0.25: 1, 0.75: 1}, 0.25),
        ({0.5: 0.9, 0.95: 1}, 0.95),
    ],
)
def test_ties_for_the_best_threshold_go_to_the_one_nearest_to_a_half(right, best):
    swept: list[tuple[float, Metrics]] = [(0.5, {"right": None})]
    swept += [(threshold, {"right": estimate(value)}) for threshold, value in right.items()]
    assert best_threshold(swept) == best


def test_accuracy_agrees_with_precision_and_recall_where_words_are_mixed():
    kinds = ["style", "capability", "mixed"]
    rows = [("q", truth, guess) for truth in kinds for guess in kinds for _ in range(3)]
    rows += [("q", "style", "style")] * 8 + [("q", "mixed", "capability")] * 5
    metrics = class_metrics(rows)
    values = {name: metric.value for name, metric in metrics.items() if metric is not None}
    styles = sum(truth == "style" for _, truth, _ in rows)
    hits = values["recall"] * styles
    false = hits / values["precision"] - hits
    assert values["accuracy"] == pytest.approx(1 - (styles - hits + false) / len(rows))
