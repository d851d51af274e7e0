"""Tables of a comparison with one row per run, for terminal and page (pure).

To add a table, add a function that returns a :class:`Section`.
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
    """Cell of a table.

    Attributes:
        text: Figure or word.
        note: Note below ``text``, such as an interval.
        share: Teacher's share in [0, 1], shown as a bar; None: no bar.
        bad: Whether the note is about failures.
    """

    text: str
    note: str = ""
    share: float | None = None
    bad: bool = False


class Column(NamedTuple):
    """Column of a table, with its heading and explanation."""

    name: str
    meaning: str


class Section(NamedTuple):
    """Table of a comparison.

    Attributes:
        title: Heading.
        columns: Columns after the first one, which contains the names of the runs.
        rows: Cells of each run, in the order of the columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: list[list[Cell]]


class ComparedRun(NamedTuple):
    """Run in a comparison.

    Attributes:
        name: Short name.
        directory: Run directory.
        method: Method of the run.
        models: Models by role.
        figures: Figures of its rows.
        report: Link to the page of the run, or None.
    """

    name: str
    directory: Path
    method: Method
    models: dict[Author, str]
    figures: RunFigures
    report: str | None = None


def sections(runs: Sequence[ComparedRun]) -> list[Section]:
    """Return every table, in reading order."""
    return [outcome(runs), authors(runs), thinking(runs), answers(runs), effort(runs)]


def outcome(runs: Sequence[ComparedRun]) -> Section:
    """Return the table of finished, failed and correct samples."""
    columns = (
        Column("problems", "Distinct problems with a sample, finished or failed."),
        Column("finished", "Samples with thinking and answer: the training data."),
        Column("failed", "Samples that could not be finished in any attempt, by reason."),
        Column(
            "correct answers",
            "Share of finished samples whose answer matches the problem's reference; below: "
            f"95 % interval and number of samples. {NONE}: no references.",
        ),
    )
    return Section("Outcome", columns, [_outcome(run.figures) for run in runs])


def _outcome(figures: RunFigures) -> list[Cell]:
    reasons = [f"{REASONS.get(name, name)} {n:,}" for name, n in figures.failures.items()]
    correct = figures.correct_share()
    return [
        Cell(f"{len(figures.shown):,}"),
        Cell(f"{len(figures.finished):,}"),
        Cell(f"{figures.failures.total():,}", ", ".join(reasons), bad=bool(reasons)),
        _percent_cell(correct, f"n = {correct.n:,.0f}" if correct else ""),
    ]


def authors(runs: Sequence[ComparedRun]) -> Section:
    """Return the table of authors of thinking and answers."""
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


def thinking(runs: Sequence[ComparedRun]) -> Section:
    """Return the table of thinking lengths."""
    return _lengths("Thinking length", runs, lambda sample: sum(sample.kept))


def answers(runs: Sequence[ComparedRun]) -> Section:
    """Return the table of answer lengths."""
    return _lengths("Answer length", runs, lambda sample: sample.answer)


def _lengths(
    title: str, runs: Sequence[ComparedRun], number: Callable[[SampleFigures], int]
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


# Requests of a sample, by role.
_SENT: tuple[Callable[[SampleFigures], int], ...] = (
    lambda sample: sample.requests[0],
    lambda sample: sample.requests[1],
)


def effort(runs: Sequence[ComparedRun]) -> Section:
    """Return the table of costs."""
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


def _interval(estimate: Estimate, show: Callable[[float], str]) -> str:
    """Return the 95 % interval; empty if there is none or its ends look equal."""
    ends = (estimate.low, estimate.high)
    texts = {show(end) for end in ends if end is not None}
    return interval(*ends, show) if len(texts) == 2 else ""
