"""Which questions a predictor learns from, and which it is measured on (pure).

All segments of all responses to a question stay together, or a predictor would be measured on
phrases it has learnt. A question's part depends on its id and the seed alone, so more questions
move none, and the test part stays when the share of validation changes.
"""

from __future__ import annotations

import re

from tessy.config_predictors import SplitPart
from tessy.seeds import SEED_BITS, derive_seed

_REPEAT = re.compile(r"#[1-9]\d*\Z")


def question_of(problem_id: str) -> str:
    """What identifies the question: ``id#2``, ``id#3`` … are ``id`` asked again."""
    return _REPEAT.sub("", problem_id) or problem_id


def part_of(problem_id: str, seed: int, validation_share: float, test_share: float) -> SplitPart:
    """The part of the split a question is in.

    Args:
        problem_id: The question's id.
        seed: Draws the split.
        validation_share: Expected share of the questions in ``validation``.
        test_share: Expected share of the questions in ``test``.
    """
    place = derive_seed("split", seed, question_of(problem_id)) / 2**SEED_BITS
    if place < test_share:
        return "test"
    return "validation" if place < test_share + validation_share else "train"
