"""Figures that only a token classifier has: how it labels tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tessy.boundary.classifier.labels import (
    STYLE,
    class_of,
    class_scores,
    own_scores,
    token_classes,
    tokens_of,
    unit_scores,
)
from tessy.boundary.classifier.model import Classifier
from tessy.boundary.evaluation.drafts import EvaluationDraft, EvaluationSegment
from tessy.boundary.evaluation.metrics import Figures, PredictedUnits, Scores, class_figures
from tessy.core.records import Annotation

_BATCH_TOKENS = 4096
_NAMES = {True: "style", False: "capability"}


def token_figures(classifier: Classifier, annotations: Sequence[Annotation]) -> Figures:
    """How the classifier labels the next token: accuracy, and of style precision, recall, F1."""
    tokens = [tokens_of(classifier.codec, row.text, classifier.rule) for row in annotations]
    limit = classifier.rule.limit
    outputs = _score(classifier, [one.ids[:limit] for one in tokens])
    rows = []
    for row, read, said in zip(annotations, tokens, outputs, strict=True):
        classes = token_classes(read, row.style)
        for truth, p_style in zip(classes, own_scores(said), strict=False):
            if p_style is not None:
                told = class_of(p_style) == STYLE
                rows.append((row.question, _NAMES[truth == STYLE], _NAMES[told]))
    return class_figures(rows)


def perfect(
    classifier: Classifier,
    annotations: Sequence[Annotation],
    segments: Sequence[EvaluationSegment],
    drafts: Sequence[EvaluationDraft],
) -> PredictedUnits:
    """What a classifier with these tokens would say if it made no mistake: the best there can be.

    It differs from the annotation where one token holds characters of both classes.
    """
    whole: dict[int, Scores] = {}
    for row, segment in zip(annotations, segments, strict=True):
        tokens = tokens_of(classifier.codec, row.text, classifier.rule)
        outputs = class_scores(token_classes(tokens, row.style))
        whole[id(segment)] = unit_scores(tokens, outputs, segment.edges)
    return PredictedUnits(
        [whole[id(draft.segment)][draft.first : draft.last] for draft in drafts],
        list(whole.values()),
    )


def _score(classifier: Classifier, windows: Sequence[Sequence[int]]) -> list[Sequence[float]]:
    """P(style) of what follows each token of each window; windows of like length together."""
    found: list[Sequence[float]] = [()] * len(windows)
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(windows[index]) > _BATCH_TOKENS:
            _fill(classifier, windows, batch, found)
            batch = []
        batch.append(index)
    _fill(classifier, windows, batch, found)
    return found


def _fill(
    classifier: Classifier,
    windows: Sequence[Sequence[int]],
    batch: Sequence[int],
    found: list[Sequence[float]],
) -> None:
    known = [index for index in batch if windows[index]]
    if known:
        for index, scores in zip(
            known, classifier.scorer.score([windows[index] for index in known]), strict=True
        ):
            found[index] = scores
