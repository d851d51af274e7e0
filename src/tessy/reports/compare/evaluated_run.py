"""An evaluation as `tessy compare` reads it: its figures, without texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tessy.core.formatting import NONE
from tessy.core.records import Evaluation, EvaluationOutcome, Key, problem_digest
from tessy.evaluation.results import (
    are_samples_missing,
    has_known_data,
    partial_note,
    planned_samples,
)
from tessy.evaluation.scores import EvaluationScore, JudgedSample, problem_means, score
from tessy.reports.compare.figures import problem_messages
from tessy.reports.compare.paper_scores import PaperScores, paper_scores
from tessy.storage.run_reader import EVALUATIONS, iter_failed_rows, iter_rows, read_config


class EvaluatedSample(NamedTuple):
    """Figures of one row."""

    key: Key
    problem: str  # digest of problem and reference
    outcome: EvaluationOutcome
    reason: str | None
    thinking: int  # tokens
    answer: int


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluation; ``unjudged`` counts samples that servers failed to generate, by reason."""

    name: str  # short
    directory: Path
    document: Mapping[str, Any]  # content of config.json
    samples: Sequence[EvaluatedSample]
    unjudged: Counter[str]
    judges: tuple[str, ...]
    report: str | None = None  # link to the page of the run

    @cached_property
    def partial(self) -> str:
        """Why its score is partial; empty if it is final."""
        return partial_note(self.score, self.unjudged.total(), planned_samples(self.document))

    @property
    def lacks_samples(self) -> bool:
        """Whether fewer samples ended than planned."""
        planned = planned_samples(self.document)
        return are_samples_missing(self.score, self.unjudged.total(), planned)

    @property
    def lacks_verdicts(self) -> bool:
        """Whether responses wait for the official judge of the benchmark."""
        return self.score.outcomes["unjudged"] > 0

    @cached_property
    def judged(self) -> list[JudgedSample]:
        """Problem and outcome of each sample."""
        return [JudgedSample(sample.key[0], sample.outcome) for sample in self.samples]

    @cached_property
    def score(self) -> EvaluationScore:
        """Its score."""
        return score(self.judged)

    @property
    def paper(self) -> PaperScores | None:
        """The paper's scores on the same problems; None without any."""
        return self._paper_by_name if has_known_data(self.document) else None

    @property
    def has_unknown_data(self) -> bool:
        """Whether the paper has scores on its benchmark, but its data are not the known ones."""
        return self._paper_by_name is not None and self.paper is None

    @property
    def _paper_by_name(self) -> PaperScores | None:
        return paper_scores(self.option("benchmark"), self.score.problems)

    @cached_property
    def means(self) -> dict[str, float]:
        """Share of correct samples by problem."""
        return problem_means(self.judged)

    @cached_property
    def samples_per_problem(self) -> str:
        """Number of samples of a problem, finished or failed: ``4``, or ``1–4``."""
        counts = Counter(sample.key[0] for sample in self.samples)
        ends = sorted({min(counts.values(), default=0), max(counts.values(), default=0)})
        return "–".join(map(str, ends))

    @cached_property
    def problems(self) -> dict[str, str]:
        """Digest of problem and reference by id."""
        return {sample.key[0]: sample.problem for sample in self.samples}

    def option(self, name: str) -> str:
        """Return a value of data_config as text."""
        value = self.document["data_config"].get(name)
        return NONE if value is None else str(value)


def read_evaluation(directory: Path, name: str, report: str | None) -> EvaluatedRun:
    """Read the rows of an evaluation, without their texts."""
    samples, judges = [], Counter[str]()
    for row in iter_rows(directory, EVALUATIONS):
        samples.append(_sample(row))
        judges[row.judge] += 1
    unjudged = Counter(row.reason for row in iter_failed_rows(directory, EVALUATIONS))
    return EvaluatedRun(
        name=name,
        directory=directory,
        document=read_config(directory, EVALUATIONS),
        samples=sorted(samples),
        unjudged=Counter(dict(unjudged.most_common())),
        judges=tuple(judge for judge, _ in judges.most_common()),
        report=report,
    )


def _sample(row: Evaluation) -> EvaluatedSample:
    tokens = row.tokens
    return EvaluatedSample(
        row.key,
        f"{problem_digest(problem_messages(row))} {row.reference}",
        row.outcome,
        row.reason,
        tokens.student + tokens.teacher,
        tokens.answer,
    )
