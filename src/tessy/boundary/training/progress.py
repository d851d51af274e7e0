"""Progress of a training: a table with one line per epoch, and a bar of steps on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

_HEADINGS = ("epoch", "train loss", "accuracy", "style precision", "recall", "F1")


@dataclass(frozen=True, slots=True)
class EpochScores:
    """Scores of an epoch on the validation part; precision, recall and F1 are of style."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch's tokens, style weighted (nats)
    accuracy: float
    precision: float
    recall: float
    f1: float
    tokens: int  # validation tokens
    style_tokens: int  # of them style

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


class TrainingProgress:
    """Prints the progress of a training; disabled in all processes but the first."""

    def __init__(
        self, console: Console, headings: Sequence[str] = _HEADINGS, *, enabled: bool = True
    ) -> None:
        self._console = console
        self._headings = headings
        self._enabled = enabled
        self._progress = Progress(
            "training",
            BarColumn(),
            MofNCompleteColumn(),
            "steps",
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("training", total=None)

    def __enter__(self) -> Self:
        self.print_line("  ".join(self._headings))
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def print_line(self, line: str) -> None:
        """Print ``line`` without wrapping."""
        if self._enabled:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def report_step(self, done: int, total: int) -> None:
        """Show ``done`` of ``total`` optimizer steps."""
        self._progress.update(self._task, completed=done, total=total)

    def report_epoch(self, scores: EpochScores, *, best: bool) -> None:
        """Print the line of an epoch; ``best`` marks the best one so far."""
        numbers = (scores.accuracy, scores.precision, scores.recall, scores.f1)
        cells = (str(scores.epoch), f"{scores.train_loss:.4f}", *(f"{n:.4f}" for n in numbers))
        self.report_row(cells, "best" if best else "")

    def report_row(self, cells: Sequence[str], note: str = "") -> None:
        """Print the cells of an epoch below their headings, and ``note`` after them."""
        line = "  ".join(
            cell.rjust(len(heading)) for cell, heading in zip(cells, self._headings, strict=True)
        )
        self.print_line(f"{line}  {note}".rstrip())
