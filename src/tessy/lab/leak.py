"""How many words the wrong model wrote, by the rule of :mod:`tessy.lab.marker` (pure).

A word is what stands between white space; its first character decides its class (style if the
rule marks it) and its author.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from tessy.lab.marker import style_spans
from tessy.records import Trajectory

BY_RULE = "by the rule that marks the bundled models' phrases"
_WORD = re.compile(r"\S+")
_Z = 1.96  # 95 %


@dataclass(frozen=True, slots=True)
class Words:
    """Words of one class in one sample: how many, and how many of them the wrong model wrote."""

    total: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Share:
    """Words of the wrong author among those of one class, over samples.

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
    """What leaked: style words the teacher wrote, capability words the student wrote."""

    samples: int
    style: Share
    capability: Share


def count(row: Trajectory) -> tuple[Words, Words]:
    """Style words and capability words of one sample's thinking."""
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
    """The shares of words by the wrong author over ``rows``."""
    counted = [count(row) for row in rows]
    return Leak(
        len(counted),
        style=pool([style for style, _ in counted]),
        capability=pool([capability for _, capability in counted]),
    )


def pool(samples: Iterable[Words]) -> Share:
    """The share over all words, with a 95 % Wilson interval.

    Words of one sample are alike, so they count for fewer than they are: the interval is that of
    as many independent words as would give the variance between samples (Kish's design effect).
    """
    counted = [sample for sample in samples if sample.total]
    words = sum(sample.total for sample in counted)
    wrong = sum(sample.wrong for sample in counted)
    if not words:
        return Share(0, 0, None, None, None)
    share = wrong / words
    effect = 1.0
    if 0 < wrong < words and len(counted) > 1:
        residuals = sum((sample.wrong - share * sample.total) ** 2 for sample in counted)
        variance = residuals / words**2 * len(counted) / (len(counted) - 1)
        effect = max(1.0, variance / (share * (1 - share) / words))
    low, high = _wilson(share, words / effect)
    return Share(words, wrong, round(share, 4), round(low, 4), round(high, 4))


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in ``n`` draws."""
    scale = 1 + _Z**2 / n
    middle = (share + _Z**2 / (2 * n)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def sentence(found: Leak) -> str:
    """The leak in one plain sentence."""
    return (
        f"Leak over {found.samples:,} samples: the teacher wrote {_said(found.style, 'style')}, "
        f"the student {_said(found.capability, 'capability')}, {BY_RULE}."
    )


def _said(part: Share, kind: str) -> str:
    said = f"{part.wrong:,} of {part.words:,} {kind} words"
    if part.share is None or part.low is None or part.high is None:
        return said
    interval = f"95 % interval {_percent(part.low)} to {_percent(part.high)}"
    return f"{said} ({_percent(part.share)}; {interval})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
