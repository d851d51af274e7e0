"""Scores of the paper, shown beside evaluations of the same problems.

A score is shown only for an evaluation of a benchmark's known data and of as many problems as the
paper's, never for another file of that size. The paper's numbers of
problems and runs follow from its scores, which are fractions of them: those in programming are
of a single run, although the paper states the mean of several. The problems of its OlympiadBench
scores are unknown, so these are not shown.

Source: Huang et al., arXiv 2604.14164, table 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tessy.core.formatting import counted, interval, percentage
from tessy.core.statistics import wilson
from tessy.reports.compare.sections import Cell, Column, Section

METHODS = (
    "Qwen3-8B", "Teacher-Score", "Teacher-Reference", "Teacher-Answer", "Teacher-Think",
    "Teacher-Mix", "Teacher-Only", "TESSY",
)  # fmt: skip


class PaperScores(NamedTuple):
    """Scores on a benchmark in percent, by method in the order of :data:`METHODS`."""

    problems: int
    runs: int  # whose mean they are
    scores: tuple[float, ...]


PAPER: Mapping[str, PaperScores] = {
    "lcb-v5": PaperScores(167, 1, (55.09, 54.55, 51.50, 35.33, 47.90, 45.51, 41.32, 62.87)),
    "lcb-v6": PaperScores(175, 1, (49.58, 48.00, 43.43, 33.14, 43.43, 40.57, 36.57, 55.43)),
    "lcb-pro": PaperScores(706, 1, (25.35, 26.06, 19.26, 21.39, 24.36, 21.95, 22.10, 36.69)),
    "ojbench": PaperScores(464, 1, (18.75, 18.32, 14.22, 14.01, 12.50, 11.85, 8.73, 25.43)),
    "gpqa-diamond": PaperScores(198, 8, (60.16, 60.61, 60.61, 60.42, 54.29, 57.39, 55.81, 59.34)),
    "aime24": PaperScores(30, 32, (76.67, 75.42, 71.98, 74.79, 77.81, 75.21, 76.88, 80.42)),
    "aime25": PaperScores(30, 32, (69.17, 66.77, 62.29, 64.48, 69.06, 61.56, 66.46, 70.10)),
}

_COLUMNS = (
    Column(
        "pass@1",
        "In percent, mean over the paper's runs; a score of a single run varies by some points "
        f"with the seed. {METHODS[0]} is the model that the paper fine-tunes, before training. "
        "Sampling, judges and prompts of the paper differ in part (docs/evaluation.md).",
    ),
    Column("95 %", "Interval for other problems of the same kind, as of one run."),
)


def paper_scores(benchmark: str, problems: int) -> PaperScores | None:
    """Return the paper's scores on a benchmark; None unless it has this number of problems."""
    found = PAPER.get(benchmark)
    return found if found is not None and found.problems == problems else None


def paper_sections(found: Mapping[str, PaperScores]) -> list[Section]:
    """Return a table of the scores on each benchmark, with a row per method."""
    return [
        Section(
            f"Scores of the paper on {benchmark}: {scores.problems} problems, "
            f"{counted(scores.runs, 'run')}",
            _COLUMNS,
            [_cells(score, scores.problems) for score in scores.scores],
            methods=METHODS,
        )
        for benchmark, scores in found.items()
    ]


def paper_json(found: PaperScores | None) -> dict[str, Any] | None:
    """Return the paper's scores as fractions by method; None without any."""
    if found is None:
        return None
    scores = {m: round(s / 100, 4) for m, s in zip(METHODS, found.scores, strict=True)}
    return {"problems": found.problems, "runs": found.runs, "pass_1": scores}


def _cells(score: float, problems: int) -> list[Cell]:
    low, high = wilson(score / 100, problems)
    return [Cell(f"{score:.2f}"), Cell(interval(low, high, percentage))]
