"""Scores of judged responses: pass@1, pass@k, and paired differences (pure).

A score is a mean over problems of each problem's own score. Its standard error and its 95 %
interval are clustered by problem, because responses to one problem are correlated. A response that
is truncated or has no answer counts as not correct; one whose judge failed does not count.

Source: M. Chen et al., arXiv 2107.03374 (pass@k); E. Miller, arXiv 2411.00640 (standard errors).
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tessy.core.records import Evaluation, EvaluationOutcome
from tessy.core.statistics import Case, Estimate, share, standard_error

Correct = Mapping[str, Sequence[bool]]  # of each scored response, by the problem's id
BOOTSTRAP_DRAWS = 4_000
# With fewer problems that differ, no paired test can exclude chance at 95 %: 2 · 0.5⁵ > 0.05.
LEAST_DIFFERING = 6


@dataclass(frozen=True, slots=True)
class RunScore:
    """The score of a run.

    ``n`` responses to ``problems`` problems are scored. ``pass_k`` has k = 2, 4, 8 … and the
    largest one, as far as each problem has as many responses.
    """

    pass_1: Estimate | None
    stderr: float | None  # of pass@1; None with a single problem
    pass_k: dict[int, Estimate]
    outcomes: Counter[EvaluationOutcome]
    reasons: Counter[str]  # why responses were truncated or had no answer
    n: int
    problems: int
    correct: Correct = field(repr=False)


def score(rows: Iterable[Evaluation]) -> RunScore:
    """Score the rows of a run, in any order."""
    outcomes: Counter[EvaluationOutcome] = Counter()
    reasons: Counter[str] = Counter()
    correct: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        outcomes[row.outcome] += 1
        if row.outcome in ("truncated", "no_answer"):
            reasons[row.reason or "no_final_answer"] += 1
        if row.outcome != "judge_error":
            correct[row.id].append(row.outcome == "correct")
    cases = _cases(correct)
    most = min(map(len, correct.values()), default=0)
    ks = sorted({k for k in (*(2**power for power in range(1, 20)), most) if 1 < k <= most})
    return RunScore(
        pass_1=share(cases),
        stderr=standard_error(cases),
        pass_k={k: estimate for k in ks if (estimate := pass_k_of(correct, k)) is not None},
        outcomes=outcomes,
        reasons=reasons,
        n=sum(map(len, correct.values())),
        problems=len(correct),
        correct=dict(correct),
    )


def _cases(correct: Correct) -> list[Case]:
    """Return cases whose ratio is the mean over problems of means over responses.

    Each problem has the same weight, and the weights sum to the number of responses.
    """
    total = sum(map(len, correct.values()))
    return [
        Case(problem, value * weight, weight)
        for problem, values in correct.items()
        for weight in [total / len(correct) / len(values)]
        for value in values
    ]


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate that one of ``k`` responses is correct, from ``n`` responses."""
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} needs at least {k} responses, got {n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def pass_k_of(correct: Correct, k: int) -> Estimate | None:
    """Return pass@k over problems, each of which has at least ``k`` responses; None without any."""
    return share(Case(p, pass_at_k(len(c), sum(c), k)) for p, c in correct.items())


class Difference(NamedTuple):
    """The paired difference of two pass@1 scores, with its 95 % interval over problems."""

    value: float  # second minus first
    low: float
    high: float
    better: int  # problems with a higher score in the second run
    worse: int
    problems: int

    @property
    def within_noise(self) -> bool:
        """Whether chance can explain the difference, by the interval or for lack of problems."""
        return self.low <= 0 <= self.high or self.better + self.worse < LEAST_DIFFERING


def paired_difference(first: Correct, second: Correct, seed: int = 0) -> Difference | None:
    """Return the difference over the problems that both have; None without any.

    The interval is that of the percentile bootstrap: problems are drawn with replacement.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    differences = [
        sum(second[problem]) / len(second[problem]) - sum(first[problem]) / len(first[problem])
        for problem in shared
    ]
    count = len(differences)
    draw = random.Random(seed)
    means = sorted(
        math.fsum(draw.choices(differences, k=count)) / count for _ in range(BOOTSTRAP_DRAWS)
    )
    edge = round(0.025 * BOOTSTRAP_DRAWS)
    return Difference(
        value=math.fsum(differences) / count,
        low=means[edge],
        high=means[-1 - edge],
        better=sum(value > 0 for value in differences),
        worse=sum(value < 0 for value in differences),
        problems=count,
    )
