"""From what an option names to a boundary predictor."""

from __future__ import annotations

from pathlib import Path

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.callable_rule import RulePredictor
from tessy.boundary.lexicon import LexiconPredictor
from tessy.config.synthesis import PredictorWindow


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
    if ":" in spec and not Path(spec).exists():
        return RulePredictor.load(spec)
    from tessy.boundary.classifier.predictor import TokenClassifierPredictor  # needs torch

    return TokenClassifierPredictor.load(spec, window=window)
