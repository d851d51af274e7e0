"""Progress of a training: a table with one line per epoch, and a bar of steps on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tessy.boundary.training.scores import EpochScores

_HEADINGS = ("epoch", "train loss", "accuracy", "style precision", "recall", "F1")


class TrainingProgress:
    """Prints the progress of a training, unless disabled."""

    def __init__(self, console: Console, *, enabled: bool = True) -> None:
        """Print to ``console``.

        Args:
            console: The console.
            enabled: False in all processes but the first.
        """
        self._console = console
        self._enabled = enabled
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("training", total=None)

    def __enter__(self) -> Self:
        """Print the table's header and start the progress bar."""
        self.print_line("  ".join(_HEADINGS))
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the progress bar."""
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
        cells = [str(scores.epoch), f"{scores.train_loss:.4f}", *(f"{n:.4f}" for n in numbers)]
        line = "  ".join(
            cell.rjust(len(heading)) for cell, heading in zip(cells, _HEADINGS, strict=True)
        )
        self.print_line(f"{line}{'  best' if best else ''}")
