"""What one run amounts to, from one pass over its rows (pure).

Of each row a few numbers are kept, and which problem it is of; its texts are read again for the
examples alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tessy.answers.references import is_right, reference_of
from tessy.core.records import AUTHORS, Author, Failure, Key, Message, Trajectory, question_digest
from tessy.core.statistics import Case, Estimate, mean, quantile, share


class SampleFigures(NamedTuple):
    """The numbers of one row.

    Attributes:
        question: What tells its problem from others.
        finished: Whether it is a trajectory.
        kept: Tokens of the thinking by author: student, teacher.
        answer: Tokens of the answer.
        drafted: What each model generated for the thinking, in its own tokens.
        requests: Requests sent to each model.
        attempts: Times it was tried.
        seconds: Wall-clock seconds over all attempts.
        right: Whether the answer is the reference; None without one, or without an answer.
    """

    question: str
    finished: bool
    kept: tuple[int, int]
    answer: int
    drafted: tuple[int, int]
    requests: tuple[int, int]
    attempts: int
    seconds: float
    right: bool | None


@dataclass(slots=True)
class RunFigures:
    """The rows of one run, added up.

    Attributes:
        samples: Finished ones and failures.
        failures: How many, by reason, the most frequent first.
        strategies: Finished samples by the strategy that made them.
        answer_by: Finished samples by who wrote the answer.
        shown: Of each problem the row that stands for the run: its first finished sample, or
            a failure.
    """

    samples: list[SampleFigures] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    strategies: Counter[str] = field(default_factory=Counter)
    answer_by: Counter[Author] = field(default_factory=Counter)
    shown: dict[str, Key] = field(default_factory=dict)

    @property
    def finished(self) -> list[SampleFigures]:
        """The samples that have an answer."""
        return [sample for sample in self.samples if sample.finished]

    def total(self, number: Callable[[SampleFigures], int]) -> int:
        """Return the sum over finished samples."""
        return sum(map(number, self.finished))

    def mean(
        self, number: Callable[[SampleFigures], float], *, failed: bool = False
    ) -> Estimate | None:
        """Return the mean over finished samples, or over all of them if ``failed``."""
        samples = self.samples if failed else self.finished
        return mean(Case(sample.question, number(sample)) for sample in samples)

    def teacher_share(self) -> Estimate | None:
        """Return the teacher's share of the tokens of the thinking."""
        return share(Case(s.question, s.kept[1], sum(s.kept)) for s in self.finished)

    def right_share(self) -> Estimate | None:
        """Return the share of right answers among finished samples with a reference."""
        return share(Case(s.question, s.right) for s in self.finished if s.right is not None)

    def kept(self, author: Author) -> Estimate | None:
        """Kept tokens of the thinking per drafted one, at most 1.

        Kept ones are the student's tokens, drafted ones the author's own: of the teacher it is an
        approximation.
        """
        number = AUTHORS.index(author)
        found = mean(Case(s.question, s.kept[number], s.drafted[number]) for s in self.finished)
        if found is None:
            return None
        low, high = (None if end is None else min(end, 1.0) for end in (found.low, found.high))
        return found._replace(value=min(found.value, 1.0), low=low, high=high)

    def lengths(self, number: Callable[[SampleFigures], int]) -> tuple[int, int, int] | None:
        """Median, 80th percentile and maximum over finished samples; None without any."""
        ordered = sorted(map(number, self.finished))
        if not ordered:
            return None
        return quantile(ordered, 0.5), quantile(ordered, 0.8), ordered[-1]


def count(trajectories: Iterable[Trajectory], failures: Iterable[Failure]) -> RunFigures:
    """Add up the rows of a run, reading each once.

    Args:
        trajectories: The finished samples.
        failures: One of each key that was never finished.
    """
    figures = RunFigures()
    for row in trajectories:
        sample = _sample(row, right(row))
        figures.samples.append(sample)
        figures.strategies[row.strategy] += 1
        figures.answer_by[row.answer_by] += 1
        known = figures.shown.get(sample.question)
        figures.shown[sample.question] = row.key if known is None else min(known, row.key)
    reasons: Counter[str] = Counter()
    for failure in failures:
        sample = _sample(failure, None)
        figures.samples.append(sample)
        reasons[failure.reason] += 1
        figures.shown.setdefault(sample.question, failure.key)
    figures.failures = Counter(dict(reasons.most_common()))
    return figures


def _sample(row: Trajectory | Failure, right: bool | None) -> SampleFigures:
    tokens, requests = row.tokens, row.cost.requests
    return SampleFigures(
        question=question_of(row),
        finished=isinstance(row, Trajectory),
        kept=(tokens.student, tokens.teacher),
        answer=tokens.answer,
        drafted=(tokens.drafted.get("student", 0), tokens.drafted.get("teacher", 0)),
        requests=(requests.get("student", 0), requests.get("teacher", 0)),
        attempts=row.attempts,
        seconds=row.seconds,
        right=right,
    )


def right(row: Trajectory) -> bool | None:
    """Return whether the answer is the reference of its problem; None without a reference."""
    wanted = reference_of(row.problem)
    return None if wanted is None else is_right(row.answer, wanted)


def question_of(row: Trajectory | Failure) -> str:
    """What tells the problem of a row from others: without system messages, which runs may add."""
    return question_digest(asked(row))


def asked(row: Trajectory | Failure) -> tuple[Message, ...]:
    """Return the problem's messages, without system messages and without the response."""
    last = max((n for n, turn in enumerate(row.messages) if turn.role == "user"), default=-1)
    return tuple(turn for turn in row.messages[: last + 1] if turn.role != "system")
