"""Tables of a comparison with one row per run, for terminal and page (pure).

To add a table, add its columns and a function that returns the cells of a run to ``_TABLES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tessy.core.formatting import NONE, interval, percent, percentage
from tessy.core.records import AUTHORS, Author
from tessy.core.statistics import Estimate
from tessy.reports.compare.figures import RunFigures, SampleFigures
from tessy.reports.compare.methods import Method

# Display names of failure reasons; other reasons are shown unchanged.
REASONS = {
    "budget": "budget exceeded",
    "repetition": "repetition",
    "eos_in_thinking": "ended in the thinking",
    "empty_thinking": "no thinking",
    "empty_answer": "no answer",
    "control_in_answer": "markup in the answer",
    "prompt_too_long": "prompt too long",
    "no_score": "not scored",
    "refused": "refused by the server",
    "server_error": "server error",
}


class Cell(NamedTuple):
    """Cell of a table."""

    text: str
    note: str = ""  # shown below the text, such as an interval
    share: float | None = None  # teacher's share in [0, 1], shown as a bar
    bad: bool = False  # whether the note is about failures


class Column(NamedTuple):
    """Column of a table, with its heading and explanation."""

    name: str
    meaning: str


class Section(NamedTuple):
    """Table of a comparison, with the cells of each run after a column of names."""

    title: str
    columns: tuple[Column, ...]
    rows: list[list[Cell]]


class ComparedRun(NamedTuple):
    """Run in a comparison."""

    name: str  # short
    directory: Path
    method: Method
    models: dict[Author, str]  # by role
    figures: RunFigures
    report: str | None = None  # link to the page of the run


def sections(runs: Sequence[ComparedRun]) -> list[Section]:
    """Return every table, in reading order."""
    return [
        Section(title, columns, [cells(run.figures) for run in runs])
        for title, columns, cells in _TABLES
    ]


_OUTCOME = (
    Column("problems", "Distinct problems with a sample, finished or failed."),
    Column("finished", "Samples with thinking and answer: the training data."),
    Column("failed", "Samples that could not be finished in any attempt, by reason."),
    Column(
        "correct answers",
        "Share of finished samples whose answer matches the problem's reference; below: "
        f"95 % interval and number of samples. {NONE}: no references.",
    ),
)


def _outcome(figures: RunFigures) -> list[Cell]:
    reasons = [f"{REASONS.get(name, name)} {n:,}" for name, n in figures.failures.items()]
    correct = figures.correct_share()
    return [
        Cell(f"{len(figures.shown):,}"),
        Cell(f"{len(figures.finished):,}"),
        Cell(f"{figures.failures.total():,}", ", ".join(reasons), bad=bool(reasons)),
        _percent_cell(correct, f"n = {correct.n:,.0f}" if correct else ""),
    ]


_AUTHORS = (
    Column(
        "teacher's share",
        "Share of thinking tokens; the bar shows the student's share, then the teacher's. "
        "Below: 95 % interval.",
    ),
    Column("student", "Thinking tokens by the student, in all samples."),
    Column("teacher", "Thinking tokens by the teacher, counted with the student's tokenizer."),
    Column("answers", "Tokens of all answers."),
    Column(
        "answer by",
        "Author of the answers; if both: the number of answers by student and teacher.",
    ),
)


def _authors(figures: RunFigures) -> list[Cell]:
    share = figures.teacher_share()
    if share and share.value in (0, 1):  # fixed by the strategy, so an interval would mislead
        share = share._replace(low=None, high=None)
    by = figures.answer_by
    both = " + ".join(f"{by[author]:,}" for author in AUTHORS) if len(by) > 1 else ""
    return [
        _percent_cell(share)._replace(share=share and share.value),
        Cell(f"{figures.total(lambda sample: sample.kept[0]):,}"),
        Cell(f"{figures.total(lambda sample: sample.kept[1]):,}"),
        Cell(f"{figures.total(lambda sample: sample.answer):,}"),
        Cell("both", both) if both else Cell(next(iter(by), NONE)),
    ]


_LENGTH = (
    Column("mean", "Mean length in tokens; below: 95 % interval."),
    Column("median", "Median length."),
    Column("p80", "80th percentile."),
    Column("longest", "Maximum length."),
)


def _length(figures: RunFigures, number: Callable[[SampleFigures], int]) -> list[Cell]:
    ordered = figures.lengths(number)
    rest = [Cell(f"{value:,}") for value in ordered] if ordered else [Cell(NONE)] * 3
    return [_mean_cell(figures.mean(number), 0), *rest]


_COST = (
    Column("attempts", "Mean attempts per sample, failed samples included."),
    *(
        Column(
            f"requests to {author}",
            f"Mean requests per sample to the {author}, failed samples included.",
        )
        for author in AUTHORS
    ),
    Column(
        "student's drafts kept",
        "Share of the thinking tokens generated by the student that the sample keeps. The rest "
        "was dropped: text after a boundary, other candidates, references.",
    ),
    Column(
        "teacher's drafts kept",
        "The same for the teacher; approximate, because kept tokens are counted with the "
        "student's tokenizer and generated ones with the teacher's.",
    ),
    Column(
        "seconds",
        "Mean wall-clock seconds per sample, failed samples included. Samples run "
        "concurrently, so a run takes far less than their sum.",
    ),
)


def _cost(figures: RunFigures) -> list[Cell]:
    return [
        _mean_cell(figures.mean(lambda sample: sample.attempts, failed=True), 2),
        _mean_cell(figures.mean(lambda sample: sample.requests[0], failed=True), 1),
        _mean_cell(figures.mean(lambda sample: sample.requests[1], failed=True), 1),
        *(_percent_cell(figures.kept(author)) for author in AUTHORS),
        _mean_cell(figures.mean(lambda sample: sample.seconds, failed=True), 1),
    ]


def _percent_cell(estimate: Estimate | None, of: str = "") -> Cell:
    if estimate is None:
        return Cell(NONE)
    ends = _interval(estimate, lambda value: percentage(value, 0))
    notes = (f"{ends} %" if ends else "", of)
    return Cell(percent(estimate.value), ", ".join(filter(None, notes)))


def _mean_cell(estimate: Estimate | None, digits: int) -> Cell:
    if estimate is None:
        return Cell(NONE)
    return Cell(
        f"{estimate.value:,.{digits}f}", _interval(estimate, lambda value: f"{value:,.{digits}f}")
    )


def _interval(estimate: Estimate, show: Callable[[float], str]) -> str:
    """Return the 95 % interval; empty if there is none or its ends look equal."""
    ends = (estimate.low, estimate.high)
    texts = {show(end) for end in ends if end is not None}
    return interval(*ends, show) if len(texts) == 2 else ""


_TABLES: tuple[tuple[str, tuple[Column, ...], Callable[[RunFigures], list[Cell]]], ...] = (
    ("Outcome", _OUTCOME, _outcome),
    ("Authors", _AUTHORS, _authors),
    ("Thinking length", _LENGTH, lambda run: _length(run, lambda sample: sum(sample.kept))),
    ("Answer length", _LENGTH, lambda run: _length(run, lambda sample: sample.answer)),
    ("Cost", _COST, _cost),
)
