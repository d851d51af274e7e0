"""Split of problems into training, validation and test parts (pure).

All segments of all responses to a problem are in the same part, so that a predictor is not tested
on phrases it was trained on. A problem's part depends only on its messages and the seed: ids do not
matter, additional problems move none, and the test part does not depend on the validation share.
"""

from __future__ import annotations

from tessy.config.predictors import SplitPart
from tessy.core.seeds import SEED_BITS, derive_seed


def part_of(question: str, seed: int, validation_share: float, test_share: float) -> SplitPart:
    """Return the part of a problem.

    Args:
        question: Digest of the problem (:func:`tessy.core.records.problem_digest`).
        seed: Seed of the split.
        validation_share: Expected share of problems in ``validation``.
        test_share: Expected share of problems in ``test``.
    """
    position = derive_seed("split", seed, question) / 2**SEED_BITS
    if position < test_share:
        return "test"
    return "validation" if position < test_share + validation_share else "train"
