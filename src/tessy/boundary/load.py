"""Loading a boundary predictor by its name."""

from __future__ import annotations

from pathlib import Path

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.callable_rule import RulePredictor
from tessy.boundary.lexicon import LexiconPredictor
from tessy.boundary.phrases import Phrases
from tessy.config.base import PredictorWindow


def is_checkpoint(spec: str) -> bool:
    """Return whether ``spec`` names a token classifier, not the lexicon or a user's rule."""
    return spec != "lexicon" and (":" not in spec or Path(spec).exists())


def load_predictor(
    spec: str, lexicon: Path | None = None, window: PredictorWindow = "anchored"
) -> BoundaryPredictor:
    """Load ``lexicon``, a rule ``module:callable``, or a checkpoint (folder or hub id).

    Raises:
        ConfigError: The callable, or the file with additional phrases, cannot be used.
        ModelError: The checkpoint cannot be used.
    """
    if spec == "lexicon":
        return LexiconPredictor(Phrases.load(lexicon))
    if not is_checkpoint(spec):
        return RulePredictor(spec)
    from tessy.boundary.classifier.predictor import TokenClassifierPredictor  # needs torch

    return TokenClassifierPredictor.load(spec, window=window)
