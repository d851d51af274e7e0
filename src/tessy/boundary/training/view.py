"""What a training shows: a table with a line an epoch, and on a terminal the steps below it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from tessy.boundary.training.fit import EpochScores

_HEADINGS = ("epoch", "train loss", "accuracy", "style precision", "recall", "F1")


class TrainingView:
    """Prints as training goes on; says nothing where it is not to be shown."""

    def __init__(self, console: Console, *, shown: bool = True) -> None:
        """Print to ``console`` if ``shown`` (the first of several processes)."""
        self._console = console
        self._shown = shown
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("training", total=None)

    def __enter__(self) -> Self:
        """Print the table's head."""
        self.say("  ".join(_HEADINGS))
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the steps away."""
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print ``line`` as it is, however wide."""
        if self._shown:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, done: int, total: int) -> None:
        """``done`` of ``total`` optimizer steps are behind us."""
        self._progress.update(self._task, completed=done, total=total)

    def epoch(self, scores: EpochScores, *, best: bool) -> None:
        """A line of the table; ``best`` so far."""
        numbers = (scores.accuracy, scores.precision, scores.recall, scores.f1)
        cells = [str(scores.epoch), f"{scores.train_loss:.4f}", *(f"{n:.4f}" for n in numbers)]
        line = "  ".join(
            cell.rjust(len(heading)) for cell, heading in zip(cells, _HEADINGS, strict=True)
        )
        self.say(f"{line}{'  best' if best else ''}")
