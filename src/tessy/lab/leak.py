"""The share of words by the wrong model, by the rule of :mod:`tessy.lab.marker` (pure).

A word is what stands between white space; its first character decides its class (style if the
rule marks it) and its author.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tessy.core.formatting import interval, percent
from tessy.core.records import Trajectory, question_digest
from tessy.core.statistics import Case, share
from tessy.lab.marker import style_spans

BY_RULE = "by the rule that marks the bundled models' phrases"
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Words:
    """Words of one class in one sample: all, and those by the wrong model."""

    total: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Share:
    """The share of words by the wrong author among those of one class, over samples.

    Attributes:
        words: How many words of the class there are.
        wrong: How many of them the wrong model wrote.
        share: ``wrong / words``; None without words.
        low: Lower end of the 95 % interval of the share.
        high: Its upper end.
    """

    words: int
    wrong: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Leak:
    """The leak: style words by the teacher, capability words by the student."""

    samples: int
    style: Share
    capability: Share


def count(row: Trajectory) -> tuple[Words, Words]:
    """Count style words and capability words of one sample's thinking."""
    marked = style_spans(row.thinking)
    starts = [start for start, _ in marked]
    turns = [span.start for span in row.spans]
    totals, wrong = [0, 0], [0, 0]
    for word in _WORD.finditer(row.thinking):
        at = word.start()
        found = bisect_right(starts, at) - 1
        style = found >= 0 and at < marked[found][1]
        author = row.spans[bisect_right(turns, at) - 1].author
        totals[style] += 1
        wrong[style] += author == ("teacher" if style else "student")
    return Words(totals[True], wrong[True]), Words(totals[False], wrong[False])


def leak(rows: Iterable[Trajectory]) -> Leak:
    """Return the shares of words by the wrong author over ``rows``.

    Words of one question hang together: see :mod:`tessy.core.statistics`.
    """
    counted = [(question_digest(row.messages), *count(row)) for row in rows]
    return Leak(
        len(counted),
        style=_pool([(question, style) for question, style, _ in counted]),
        capability=_pool([(question, capability) for question, _, capability in counted]),
    )


def _pool(samples: Sequence[tuple[str, Words]]) -> Share:
    estimate = share(Case(question, part.wrong, part.total) for question, part in samples)
    wrong = sum(part.wrong for _, part in samples)
    if estimate is None:
        return Share(0, wrong, None, None, None)
    ends = (estimate.value, estimate.low, estimate.high)
    return Share(int(estimate.n), wrong, *(None if x is None else round(x, 4) for x in ends))


def sentence(found: Leak) -> str:
    """Return the leak in one plain sentence."""
    return (
        f"Leak over {found.samples:,} samples: the teacher wrote {_said(found.style, 'style')}, "
        f"the student {_said(found.capability, 'capability')}, {BY_RULE}."
    )


def _said(part: Share, kind: str) -> str:
    said = f"{part.wrong:,} of {part.words:,} {kind} words"
    if part.share is None or part.low is None or part.high is None:
        return said
    ends = interval(part.low, part.high, percent, " to ")
    return f"{said} ({percent(part.share)}; 95 % interval {ends})"
