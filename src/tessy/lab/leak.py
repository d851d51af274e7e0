"""The share of words by the wrong model, by the rule of :mod:`tessy.lab.marker` (pure).

The first character of a word determines its class (style if the rule marks it) and its author.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tessy.core.formatting import counted, interval, percent
from tessy.core.records import Trajectory, problem_digest
from tessy.core.statistics import Case, share
from tessy.lab.marker import style_spans

BY_RULE = "by the rule that marks the bundled models' phrases"
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Share:
    """The share of words by the wrong author among those of one class, over samples."""

    words: int
    wrong: int
    share: float | None  # None without words
    low: float | None  # of the 95 % interval
    high: float | None


@dataclass(frozen=True, slots=True)
class Leak:
    """The leak: style words by the teacher, capability words by the student."""

    samples: int
    style: Share
    capability: Share


def count(row: Trajectory) -> tuple[Case, Case]:
    """Count the words by the wrong model among style and among capability words of one sample."""
    marked = style_spans(row.thinking)
    starts = [start for start, _ in marked]
    turns = [span.start for span in row.spans]
    totals, wrong = [0, 0], [0, 0]
    for word in _WORD.finditer(row.thinking):
        start = word.start()
        index = bisect_right(starts, start) - 1
        style = index >= 0 and start < marked[index][1]
        author = row.spans[bisect_right(turns, start) - 1].author
        totals[style] += 1
        wrong[style] += author == ("teacher" if style else "student")
    problem = problem_digest(row.messages)
    return Case(problem, wrong[True], totals[True]), Case(problem, wrong[False], totals[False])


def leak(rows: Iterable[Trajectory]) -> Leak:
    """Return the shares of words by the wrong author over ``rows``."""
    counts = [count(row) for row in rows]
    return Leak(
        len(counts),
        style=_pool([style for style, _ in counts]),
        capability=_pool([capability for _, capability in counts]),
    )


def _pool(cases: Sequence[Case]) -> Share:
    estimate = share(cases)
    wrong = int(sum(case.amount for case in cases))
    if estimate is None:
        return Share(0, wrong, None, None, None)
    ends = (estimate.value, estimate.low, estimate.high)
    return Share(int(estimate.n), wrong, *(None if x is None else round(x, 4) for x in ends))


def sentence(measured: Leak) -> str:
    """Return the leak as a sentence."""
    return (
        f"Leak over {counted(measured.samples, 'sample')}: the teacher wrote "
        f"{_describe(measured.style, 'style')}, the student "
        f"{_describe(measured.capability, 'capability')}, {BY_RULE}."
    )


def _describe(words: Share, kind: str) -> str:
    counts = f"{words.wrong:,} of {counted(words.words, f'{kind} word')}"
    if words.share is None or words.low is None or words.high is None:
        return counts
    ends = interval(words.low, words.high, percent, " to ")
    return f"{counts} ({percent(words.share)}; 95 % interval {ends})"
