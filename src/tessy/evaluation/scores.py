"""Scores of an evaluation and paired differences of two, clustered by problem (pure).

A score is the mean over problems of the mean over samples. Responses that cannot be judged
(``judge_error``, and failures of servers) or are not judged yet (``unjudged``) have no score;
truncated ones and those without an answer are not correct.

Source: M. Chen et al., arXiv 2107.03374 (pass@k); E. Miller, arXiv 2411.00640 (standard errors
clustered by problem, paired differences).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from tessy.core.records import EvaluationOutcome
from tessy.core.statistics import Case, Estimate, share

LEAST_DIFFERING = 6  # problems, for a verdict other than noise
UNSCORED: frozenset[EvaluationOutcome] = frozenset({"judge_error", "unjudged"})
RESAMPLES = 4000  # of the bootstrap: the ends of its interval vary by about 1 % of its width


class JudgedSample(NamedTuple):
    """What a score needs of a row."""

    problem: str  # id
    outcome: EvaluationOutcome


@dataclass(frozen=True, slots=True)
class EvaluationScore:
    """Score of one evaluation.

    Attributes:
        pass_1: Probability that one sample is correct; None without a scored sample.
        standard_error: Standard error of ``pass_1``; None with fewer than two problems.
        pass_k: Probability that at least one of k samples is correct, for powers of two up to the
            smallest number of scored samples of a problem.
        outcomes: Samples by outcome.
        n: Scored samples.
        problems: Problems with a scored sample.
    """

    pass_1: Estimate | None
    standard_error: float | None
    pass_k: Mapping[int, Estimate]
    outcomes: Counter[EvaluationOutcome]
    n: int
    problems: int


class Difference(NamedTuple):
    """Paired difference of two evaluations, in the problems that both scored.

    The 95 % interval is a percentile bootstrap over problems.
    """

    value: float
    low: float
    high: float
    problems: int
    better: int  # problems with a higher mean afterwards
    worse: int

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``within noise``.

        A difference is noise if its interval contains 0, or if fewer than six problems differ: even
        five that all improve have a probability above 5 % by chance (sign test).
        """
        if self.low <= 0 <= self.high or self.better + self.worse < LEAST_DIFFERING:
            return "within noise"
        return "better" if self.low > 0 else "worse"


def score(samples: Iterable[JudgedSample]) -> EvaluationScore:
    """Score the samples of one evaluation."""
    outcomes: Counter[EvaluationOutcome] = Counter()
    correct: defaultdict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        outcomes[sample.outcome] += 1
        if sample.outcome not in UNSCORED:
            correct[sample.problem].append(sample.outcome == "correct")
    counts = {problem: (len(each), sum(each)) for problem, each in correct.items()}
    least = min((n for n, _ in counts.values()), default=0)
    powers = [2**power for power in range(least.bit_length())]
    pass_k = {k: _over_problems({p: pass_at(k, *c) for p, c in counts.items()}) for k in powers}
    means = {problem: c / n for problem, (n, c) in counts.items()}
    return EvaluationScore(
        pass_1=_over_problems(means),
        standard_error=_standard_error(list(means.values())),
        pass_k={k: estimate for k, estimate in pass_k.items() if estimate is not None},
        outcomes=outcomes,
        n=sum(n for n, _ in counts.values()),
        problems=len(counts),
    )


def pass_at(k: int, n: int, correct: int) -> float:
    """Return the unbiased estimate of pass@k from ``correct`` of ``n`` >= k samples."""
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def problem_means(samples: Iterable[JudgedSample]) -> dict[str, float]:
    """Return the share of correct samples of each problem with a scored sample."""
    results: defaultdict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.outcome not in UNSCORED:
            results[sample.problem].append(sample.outcome == "correct")
    return {problem: sum(each) / len(each) for problem, each in results.items()}


def paired_difference(
    before: Mapping[str, float], after: Mapping[str, float], *, seed: int = 0
) -> Difference | None:
    """Return ``after - before`` over the problems of both; None if there are none.

    The arguments are those of :func:`problem_means`. The same arguments give the same interval.
    """
    shared = sorted(before.keys() & after.keys())
    differences = [after[problem] - before[problem] for problem in shared]
    if not differences:
        return None
    low, high = _bootstrap(differences, Random(seed))
    return Difference(
        value=math.fsum(differences) / len(differences),
        low=low,
        high=high,
        problems=len(differences),
        better=sum(d > 0 for d in differences),
        worse=sum(d < 0 for d in differences),
    )


def _over_problems(values: Mapping[str, float]) -> Estimate | None:
    return share(Case(problem, value) for problem, value in values.items())


def _standard_error(means: Sequence[float]) -> float | None:
    count = len(means)
    if count < 2:
        return None
    middle = math.fsum(means) / count
    spread = math.fsum((value - middle) ** 2 for value in means)
    return math.sqrt(spread / (count * (count - 1)))


def _bootstrap(values: Sequence[float], rng: Random) -> tuple[float, float]:
    count = len(values)
    means = sorted(math.fsum(rng.choices(values, k=count)) / count for _ in range(RESAMPLES))
    tail = round(0.025 * RESAMPLES)
    return means[tail - 1], means[-tail]
