"""The validation scores of an epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpochScores:
    """Scores of an epoch on the validation part.

    Attributes:
        epoch: Number of the epoch, from 1.
        train_loss: Mean loss over the epoch's tokens (nats, style weighted).
        accuracy: Share of tokens with the correct class.
        precision: Precision of style.
        recall: Recall of style.
        f1: Harmonic mean of both.
        tokens: Number of validation tokens.
        style_tokens: Number of style tokens among them.
    """

    epoch: int
    train_loss: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    tokens: int
    style_tokens: int

    @property
    def majority(self) -> float:
        """Accuracy of always predicting the more frequent class."""
        return max(self.style_tokens, self.tokens - self.style_tokens) / self.tokens

    def warning(self) -> str | None:
        """Return a warning if the classifier is no better than a constant; None otherwise."""
        if self.accuracy > self.majority and self.f1:
            return None
        usual = "style" if 2 * self.style_tokens > self.tokens else "capability"
        return (
            f"this predictor is not useful: its validation accuracy is {self.accuracy:.4f} and its "
            f"style F1 {self.f1:.4f}, while always predicting {usual} has an accuracy of "
            f"{self.majority:.4f} (n = {self.tokens:,} tokens). Train longer (--epochs, a smaller "
            "--batch), with another --learning-rate (higher for a small base), or on more segments"
        )
