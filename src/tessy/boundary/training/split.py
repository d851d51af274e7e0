"""Which questions a predictor learns from, and which it is measured on (pure).

All segments of all responses to a question stay together, or a predictor would be measured on
phrases it has learnt. A question's part depends on its messages and the seed alone, so ids do not
matter, more questions move none, and the test part stays when the share of validation changes.
"""

from __future__ import annotations

from tessy.config.predictors import SplitPart
from tessy.core.seeds import SEED_BITS, derive_seed


def part_of(question: str, seed: int, validation_share: float, test_share: float) -> SplitPart:
    """The part of the split a question is in.

    Args:
        question: Its digest (:func:`tessy.core.records.question_digest`).
        seed: Draws the split.
        validation_share: Expected share of the questions in ``validation``.
        test_share: Expected share of the questions in ``test``.
    """
    place = derive_seed("split", seed, question) / 2**SEED_BITS
    if place < test_share:
        return "test"
    return "validation" if place < test_share + validation_share else "train"
