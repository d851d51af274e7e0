"""``near_duplicate``: the text is nearly that of an earlier row that passed.

MinHash signatures (rensa) select earlier rows that may be similar; the exact share of common word
5-grams decides. A row takes about 3.5 kB of memory, independent of its length; texts are read from
disk. Fewer than 1 in 2,000 pairs that share 80 % of their 5-grams is missed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessy.config.data import FilterConfig
from tessy.core.extras import check_installed
from tessy.core.formatting import percent
from tessy.core.records import Trajectory, problem_digest
from tessy.data.filter.rule import FilterRule, RowCheck
from tessy.data.filter.words import grams, words

if TYPE_CHECKING:
    from rensa import RMinHash  # type: ignore[import-untyped]  # ships no types

SIMILARITY = 0.8  # Jaccard similarity of the sets of 5-grams
GRAM_WORDS = 5
# Shorter texts, such as "The answer is 4.", are compared only between samples of one problem.
SHORT_WORDS = 30

_Sketch = tuple[set[str], "RMinHash"]

_PERMUTATIONS = 100
_BANDS = 20
_MARGIN = 0.15  # nearly four standard deviations of the estimate at SIMILARITY
_MAX_EXACT = 10  # candidates compared exactly, most similar first
_SEED = 1


class NearDuplicates:
    """Finds rows that nearly repeat a remembered row; ConfigError if rensa is not installed."""

    def __init__(self) -> None:
        check_installed("near_duplicate (omit it with --skip near_duplicate)", {"rensa": "data"})
        import rensa

        self._new: Callable[..., RMinHash] = rensa.RMinHash
        self._index = rensa.RMinHashLSH(
            threshold=SIMILARITY, num_perm=_PERMUTATIONS, num_bands=_BANDS
        )
        self._kept: list[tuple[Callable[[], Trajectory], RMinHash]] = []
        self._last: tuple[Trajectory, _Sketch] | None = None

    def find(self, row: Trajectory) -> str | None:
        """Return the remembered row that ``row`` nearly repeats, and their similarity, or None."""
        own, signature = self._sketch(row)
        if not own:
            return None
        estimates = {
            at: signature.jaccard(self._kept[at][1]) for at in self._index.query(signature)
        }
        likely = [at for at, estimate in estimates.items() if estimate >= SIMILARITY - _MARGIN]
        for at in sorted(likely, key=lambda at: (-estimates[at], at))[:_MAX_EXACT]:
            read, _ = self._kept[at]
            earlier = read()
            earlier_grams = _grams(earlier)
            shared = len(own & earlier_grams)
            similarity = shared / (len(own) + len(earlier_grams) - shared)
            if similarity >= SIMILARITY:
                return (
                    f"{percent(similarity, 0)} of the word {GRAM_WORDS}-grams are shared with "
                    f"sample {earlier.sample} of {earlier.id!r}"
                )
        return None

    def remember(self, row: Trajectory, read: Callable[[], Trajectory]) -> None:
        """Add a row that passed; ``read`` is called to compare it with a later row."""
        own, signature = self._sketch(row)
        if own:
            self._index.insert(len(self._kept), signature)
            self._kept.append((read, signature))

    def _sketch(self, row: Trajectory) -> _Sketch:
        if self._last is None or self._last[0] is not row:
            own = _grams(row)
            signature = self._new(num_perm=_PERMUTATIONS, seed=_SEED)
            signature.update(list(own))
            self._last = row, (own, signature)
        return self._last[1]


def _grams(row: Trajectory) -> set[str]:
    text = words(f"{row.thinking}\n{row.answer}")
    word_grams = grams(text, GRAM_WORDS)
    if len(text) >= SHORT_WORDS:
        return word_grams
    problem = problem_digest(row.messages)
    return {f"{problem} {gram}" for gram in word_grams}


def _prepare(options: FilterConfig) -> RowCheck:
    duplicates = NearDuplicates()
    return RowCheck(duplicates.find, duplicates.remember)


RULE = FilterRule(
    name="near_duplicate",
    position=70,
    finds="the text is nearly that of an earlier row that passed",
    prepare=_prepare,
)
