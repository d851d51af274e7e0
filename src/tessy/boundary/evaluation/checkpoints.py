"""Metrics of token classifiers only: of their tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tessy.boundary.classifier.labels import (
    CAPABILITY,
    STYLE,
    class_of,
    encode_text,
    oracle_outputs,
    token_classes,
    token_scores,
    unit_scores,
)
from tessy.boundary.classifier.model import Classifier
from tessy.boundary.classifier.predictor import padding_slack
from tessy.boundary.evaluation.drafts import EvaluationSample
from tessy.boundary.evaluation.metrics import Metrics, PredictedUnits, Scores, class_metrics
from tessy.core.records import Annotation
from tessy.inference.local.jobs import batches

_NAMES = {CAPABILITY: "capability", STYLE: "style"}


def token_metrics(classifier: Classifier, annotations: Sequence[Annotation]) -> Metrics:
    """Return accuracy of the next-token labels, and precision, recall and F1 of style."""
    tokens = [encode_text(classifier.codec, row.text, classifier.rule) for row in annotations]
    limit = classifier.rule.limit
    outputs = _score(classifier, [row_tokens.ids[:limit] for row_tokens in tokens])
    rows = []
    for row, encoded, scores in zip(annotations, tokens, outputs, strict=True):
        classes = token_classes(encoded, row.style)
        for truth, p_style in zip(classes, token_scores(scores), strict=False):
            if p_style is not None:
                rows.append((row.question, _NAMES[truth], _NAMES[class_of(p_style)]))
    return class_metrics(rows)


def oracle_units(
    classifier: Classifier, annotations: Sequence[Annotation], sample: EvaluationSample
) -> PredictedUnits:
    """Return the scores of a perfect classifier with the same tokens: an upper bound.

    They differ from the annotation where one token has characters of both classes.
    """
    whole: dict[int, Scores] = {}
    for row, segment in zip(annotations, sample.segments, strict=True):
        tokens = encode_text(classifier.codec, row.text, classifier.rule)
        outputs = oracle_outputs(token_classes(tokens, row.style))
        whole[id(segment)] = unit_scores(tokens, outputs, segment.edges)
    return PredictedUnits(
        [whole[id(draft.segment)][draft.first : draft.last] for draft in sample.drafts],
        list(whole.values()),
    )


def _score(classifier: Classifier, windows: Sequence[Sequence[int]]) -> list[Sequence[float]]:
    """Return P(style) of what follows each token of each window; batches by length."""
    results: list[Sequence[float]] = [()] * len(windows)
    members = [(index, list(window)) for index, window in enumerate(windows) if window]
    slack = padding_slack(classifier.scorer.model.device.type)
    for group in batches(members, slack):
        outputs = classifier.scorer.score([window for _, window in group])
        for (index, _), scores in zip(group, outputs, strict=True):
            results[index] = scores
    return results
