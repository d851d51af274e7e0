"""Figures of a run, collected in one pass over its rows, without their texts (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from tessy.answers.agreement import is_correct
from tessy.answers.references import reference_of
from tessy.core.records import (
    AUTHORS,
    Author,
    Evaluation,
    Failure,
    Key,
    Message,
    Trajectory,
    problem_digest,
)
from tessy.core.statistics import Case, Estimate, mean, quantile, share


class SampleFigures(NamedTuple):
    """Figures of one row; pairs are (student, teacher)."""

    problem: str  # digest
    finished: bool
    kept: tuple[int, int]  # tokens of the thinking by author, in the student's tokens
    answer: int
    drafted: tuple[int, int]  # tokens generated for the thinking, in each model's own tokens
    requests: tuple[int, int]
    attempts: int
    seconds: float  # wall clock, over all attempts
    correct: bool | None  # the answer matches the reference; None without reference or answer


@dataclass(slots=True)
class RunFigures:
    """Figures of one run.

    ``strategies`` and ``answer_by`` count finished samples by strategy and author of the answer.
    ``shown`` has the key of the row to show as an example, by digest of the problem: the first
    finished sample, or else a failure. ``texts`` has a digest of each finished sample's text.
    """

    samples: list[SampleFigures] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)  # by reason, most frequent first
    strategies: Counter[str] = field(default_factory=Counter)
    answer_by: Counter[Author] = field(default_factory=Counter)
    shown: dict[str, Key] = field(default_factory=dict)
    texts: dict[Key, bytes] = field(default_factory=dict)

    @property
    def finished(self) -> list[SampleFigures]:
        """Finished samples."""
        return [sample for sample in self.samples if sample.finished]

    def total(self, number: Callable[[SampleFigures], int]) -> int:
        """Return the sum of a figure over finished samples."""
        return sum(map(number, self.finished))

    def mean(
        self, number: Callable[[SampleFigures], float], *, failed: bool = False
    ) -> Estimate | None:
        """Return the mean of a figure over finished samples; over all samples if ``failed``."""
        samples = self.samples if failed else self.finished
        return mean(Case(sample.problem, number(sample)) for sample in samples)

    def teacher_share(self) -> Estimate | None:
        """Return the teacher's share of the thinking tokens."""
        return share(Case(s.problem, s.kept[1], sum(s.kept)) for s in self.finished)

    def correct_share(self) -> Estimate | None:
        """Return the share of correct answers among finished samples with a reference."""
        return share(Case(s.problem, s.correct) for s in self.finished if s.correct is not None)

    def kept(self, author: Author) -> Estimate | None:
        """Return the ratio of kept to drafted tokens of the thinking, at most 1.

        Approximate for the teacher: kept tokens are the student's, drafted tokens its own.
        """
        number = AUTHORS.index(author)
        ratio = mean(Case(s.problem, s.kept[number], s.drafted[number]) for s in self.finished)
        if ratio is None:
            return None
        low, high = (None if end is None else min(end, 1.0) for end in (ratio.low, ratio.high))
        return ratio._replace(value=min(ratio.value, 1.0), low=low, high=high)

    def lengths(self, number: Callable[[SampleFigures], int]) -> tuple[int, int, int] | None:
        """Return median, 80th percentile and maximum of a figure; None without finished samples."""
        ordered = sorted(map(number, self.finished))
        if not ordered:
            return None
        return quantile(ordered, 0.5), quantile(ordered, 0.8), ordered[-1]


def collect_figures(
    trajectories: Iterable[Trajectory],
    failures: Iterable[Failure],
    superseded: Iterable[Failure] = (),
) -> RunFigures:
    """Collect the figures of a run.

    ``failures`` has one failure of each unfinished key; of ``superseded`` only the cost counts.
    """
    figures = RunFigures()
    earlier: dict[Key, list[Failure]] = defaultdict(list)
    for failure in superseded:
        earlier[failure.key].append(failure)
    for row in trajectories:
        sample = _sample(row, answered_correctly(row), earlier[row.key])
        figures.samples.append(sample)
        text = f"{row.thinking}\0{row.answer}".encode("utf-8", "surrogatepass")
        figures.texts[row.key] = blake2b(text, digest_size=16).digest()
        figures.strategies[row.strategy] += 1
        figures.answer_by[row.answer_by] += 1
        shown_key = figures.shown.get(sample.problem)
        figures.shown[sample.problem] = row.key if shown_key is None else min(shown_key, row.key)
    reasons: Counter[str] = Counter()
    for failure in failures:
        sample = _sample(failure, None, earlier[failure.key])
        figures.samples.append(sample)
        reasons[failure.reason] += 1
        figures.shown.setdefault(sample.problem, failure.key)
    figures.failures = Counter(dict(reasons.most_common()))
    return figures


def _sample(
    row: Trajectory | Failure, correct: bool | None, earlier: Sequence[Failure]
) -> SampleFigures:
    tokens, every = row.tokens, (row, *earlier)

    def both(counts: Callable[[Trajectory | Failure], Mapping[Author, int]]) -> tuple[int, int]:
        student, teacher = (sum(counts(one).get(a, 0) for one in every) for a in AUTHORS)
        return student, teacher

    return SampleFigures(
        problem=problem_digest(problem_messages(row)),
        finished=isinstance(row, Trajectory),
        kept=(tokens.student, tokens.teacher),
        answer=tokens.answer,
        drafted=both(lambda one: one.tokens.drafted),
        requests=both(lambda one: one.cost.requests),
        attempts=row.attempts,
        seconds=sum(one.seconds for one in every),
        correct=correct,
    )


def answered_correctly(row: Trajectory) -> bool | None:
    """Return whether the answer matches the problem's reference; None without a reference."""
    reference = reference_of(row.problem)
    return None if reference is None else is_correct(row.answer, reference)


def problem_messages(row: Evaluation | Trajectory | Failure) -> tuple[Message, ...]:
    """Return the problem's messages, without the response and system messages.

    Runs of the same problems may differ in their system messages.
    """
    last = max((n for n, turn in enumerate(row.messages) if turn.role == "user"), default=-1)
    return tuple(turn for turn in row.messages[: last + 1] if turn.role != "system")
