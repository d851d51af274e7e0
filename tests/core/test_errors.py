"""Failure reasons as people read them."""

from __future__ import annotations

from typing import get_args

from tessy.core.errors import (
    AnnotationFailureReason,
    FailureReason,
    reason_label,
    reason_labels,
)

REASONS = sorted({*get_args(FailureReason), *get_args(AnnotationFailureReason)})


def test_every_reason_has_a_label_of_its_own():
    labels = [reason_label(reason) for reason in REASONS]
    assert len(set(labels)) == len(REASONS)
    assert not any("_" in label for label in labels)


def test_a_reason_of_another_version_is_shown_without_underscores():
    assert reason_labels({"some_day": 2, "budget": 1}) == {"some day": 2, "budget exceeded": 1}
