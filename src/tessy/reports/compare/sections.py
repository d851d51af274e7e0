"""The tables of a comparison, one row a run, as text for a terminal and a page alike (pure).

A new kind of measure is one more function that makes a :class:`Section`.
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

# What stands in failures.jsonl, for people. Others are shown as they are.
REASONS = {
    "budget": "too long",
    "repetition": "repeats itself",
    "eos_in_thinking": "ended in mid-thought",
    "empty_thinking": "no thinking",
    "empty_answer": "no answer",
    "control_in_answer": "markup in the answer",
    "prompt_too_long": "problem too long",
    "no_score": "not scored",
    "refused": "refused by the server",
    "server_error": "server error",
}


class Cell(NamedTuple):
    """What stands in one place of a table.

    Attributes:
        text: The figure, or words.
        note: Smaller, below it: an interval or what the figure is of.
        share: The teacher's share in [0, 1], where a bar is to show it.
        bad: Whether it is about failures.
    """

    text: str
    note: str = ""
    share: float | None = None
    bad: bool = False


class Column(NamedTuple):
    """A column: its head, and a sentence on what it holds."""

    name: str
    meaning: str


class Section(NamedTuple):
    """One table.

    Attributes:
        title: What it is about.
        columns: Its columns, without the first one, the name of the run.
        rows: The cells of each run, in the order of the columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: list[list[Cell]]


class Compared(NamedTuple):
    """One run.

    Attributes:
        name: What it is called here.
        directory: Where it is.
        method: How it was made.
        models: Its models by role.
        figures: Its rows, added up.
        report: Its own page, as a link from this one; None: there is none.
    """

    name: str
    directory: Path
    method: Method
    models: dict[Author, str]
    figures: RunFigures
    report: str | None = None


def sections(runs: Sequence[Compared]) -> list[Section]:
    """Return every table, in reading order."""
    return [outcome(runs), authors(runs), thinking(runs), answers(runs), effort(runs)]


def outcome(runs: Sequence[Compared]) -> Section:
    """Outcome: finished, failed, right."""
    columns = (
        Column("problems", "Distinct problems with a sample, finished or failed."),
        Column("finished", "Samples with thinking and answer: the training data."),
        Column("failed", "Samples that could not be finished in any attempt, by reason."),
        Column(
            "right answers",
            "Share of finished samples whose answer agrees with the problem's reference; below: "
            f"95 % interval and number of samples. {NONE}: no references.",
        ),
    )
    return Section("Outcome", columns, [_outcome(run.figures) for run in runs])


def _outcome(figures: RunFigures) -> list[Cell]:
    reasons = [f"{REASONS.get(name, name)} {n:,}" for name, n in figures.failures.items()]
    right = figures.right_share()
    return [
        Cell(f"{len(figures.shown):,}"),
        Cell(f"{len(figures.finished):,}"),
        Cell(f"{figures.failures.total():,}", ", ".join(reasons), bad=bool(reasons)),
        _percent_cell(right, f"n = {right.n:,.0f}" if right else ""),
    ]


def authors(runs: Sequence[Compared]) -> Section:
    """Who wrote the thinking and the answer."""
    columns = (
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
    return Section("Authors", columns, [_authors(run.figures) for run in runs])


def _authors(figures: RunFigures) -> list[Cell]:
    taught = figures.teacher_share()
    if taught and taught.value in (0, 1):  # by construction, so there is nothing uncertain in it
        taught = taught._replace(low=None, high=None)
    by = figures.answer_by
    counted = " + ".join(f"{by[author]:,}" for author in AUTHORS) if len(by) > 1 else ""
    return [
        _percent_cell(taught)._replace(share=taught and taught.value),
        Cell(f"{figures.total(lambda sample: sample.kept[0]):,}"),
        Cell(f"{figures.total(lambda sample: sample.kept[1]):,}"),
        Cell(f"{figures.total(lambda sample: sample.answer):,}"),
        Cell("both", counted) if counted else Cell(next(iter(by), NONE)),
    ]


def thinking(runs: Sequence[Compared]) -> Section:
    """Return the lengths of the thinking."""
    return _lengths("Thinking length", runs, lambda sample: sum(sample.kept))


def answers(runs: Sequence[Compared]) -> Section:
    """Return the lengths of the answers."""
    return _lengths("Answer length", runs, lambda sample: sample.answer)


def _lengths(
    title: str, runs: Sequence[Compared], number: Callable[[SampleFigures], int]
) -> Section:
    columns = (
        Column("mean", "Mean length in tokens; below: 95 % interval."),
        Column("median", "Median length."),
        Column("p80", "80th percentile."),
        Column("longest", "Maximum length."),
    )
    return Section(title, columns, [_length(run.figures, number) for run in runs])


def _length(figures: RunFigures, number: Callable[[SampleFigures], int]) -> list[Cell]:
    ordered = figures.lengths(number)
    rest = [Cell(f"{value:,}") for value in ordered] if ordered else [Cell(NONE)] * 3
    return [_mean_cell(figures.mean(number), 0), *rest]


# Requests of a sample, by author.
_SENT: tuple[Callable[[SampleFigures], int], ...] = (
    lambda sample: sample.requests[0],
    lambda sample: sample.requests[1],
)


def effort(runs: Sequence[Compared]) -> Section:
    """Return the cost of the samples."""
    columns = (
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
    return Section("Cost", columns, [_effort(run.figures) for run in runs])


def _effort(figures: RunFigures) -> list[Cell]:
    return [
        _mean_cell(figures.mean(lambda sample: sample.attempts, failed=True), 2),
        *(_mean_cell(figures.mean(sent, failed=True), 1) for sent in _SENT),
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


def _interval(estimate: Estimate, said: Callable[[float], str]) -> str:
    """Return the 95 % interval; nothing where there is none, or none to be seen."""
    ends = (estimate.low, estimate.high)
    seen = {said(end) for end in ends if end is not None}
    return interval(*ends, said) if len(seen) == 2 else ""
