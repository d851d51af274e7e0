"""From what an option names to a boundary predictor."""

from __future__ import annotations

from pathlib import Path

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.conventions import conventions_of
from tessy.boundary.lexicon import LexiconPredictor
from tessy.boundary.rule import RulePredictor
from tessy.config import PredictorWindow
from tessy.records import Author


def load_predictor(
    spec: str, lexicon: Path | None = None, window: PredictorWindow = "anchored"
) -> BoundaryPredictor:
    """The boundary predictor that ``spec`` names.

    Args:
        spec: ``lexicon``, ``module:callable``, or a checkpoint (folder or hub id).
        lexicon: A file with further phrases for the lexicon.
        window: What a checkpoint reads of a text.

    Raises:
        ConfigError: No such callable.
        ModelError: The checkpoint cannot be used.
    """
    if spec == "lexicon":
        return LexiconPredictor.load(lexicon)
    if _is_rule(spec):
        return RulePredictor.load(spec)
    from tessy.boundary.predictor import TokenClassifierPredictor  # needs torch

    return TokenClassifierPredictor.load(spec, window=window)


def trained_for(spec: str) -> Author | None:
    """Whose words a checkpoint was trained to cut; None for other predictors, or if it is silent.

    Raises:
        ModelError: The checkpoint cannot be used.
    """
    if spec == "lexicon" or _is_rule(spec):
        return None
    conventions = conventions_of(spec)
    return conventions.author if conventions is not None else None


def _is_rule(spec: str) -> bool:
    return ":" in spec and not Path(spec).exists()
