"""Near-duplicates among the rows that a run keeps.

MinHash signatures (rensa) find earlier rows that may be nearly the same; the exact share of word
5-grams of the two texts decides, so no report is an accident of hashes. Memory holds a signature,
its places in the index and an offset, about 3.5 kB a kept row whatever its length; texts are read
again from the disk. Of pairs that share 80 % of their 5-grams, fewer than 1 in 2,000 is not found.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from tessy.core.errors import ConfigError
from tessy.core.formatting import percent
from tessy.core.records import Trajectory, question_digest
from tessy.data.filter.rule import RowCheck
from tessy.data.filter.words import grams, words

if TYPE_CHECKING:
    from rensa import RMinHash  # type: ignore[import-untyped]  # ships none

SIMILARITY = 0.8  # Jaccard: shared 5-grams of all that either text has
GRAM_WORDS = 5
SHORT_WORDS = 30  # shorter texts, "The answer is 4.", repeat by chance: only at one problem

_Sketch = tuple[set[str], "RMinHash"]

_PERMUTATIONS = 100
_BANDS = 20
_MARGIN = 0.15  # nearly four standard deviations of the estimate at SIMILARITY
_READ_AGAIN = 10  # candidates compared exactly, the likeliest ones first
_SEED = 1


class NearDuplicates(RowCheck):
    """Finds rows that nearly repeat an earlier row that passed.

    Rejected rows are not remembered, so one of several similar rows passes.
    """

    def __init__(self, read: Callable[[int], Trajectory]) -> None:
        """Start without rows.

        Args:
            read: Returns a row that passed, by its offset.

        Raises:
            ConfigError: The library is not installed.
        """
        rensa = load_library()
        self._new: Callable[..., RMinHash] = rensa.RMinHash
        self._index = rensa.RMinHashLSH(
            threshold=SIMILARITY, num_perm=_PERMUTATIONS, num_bands=_BANDS
        )
        self._read = read
        self._kept: list[tuple[int, RMinHash]] = []
        self._last: tuple[Trajectory, _Sketch] | None = None

    def find(self, row: Trajectory) -> str | None:
        """Which kept row the text of ``row`` nearly repeats, and how much; None if it repeats none.

        The text is thinking and answer. Under 30 words it is compared with that of other samples
        of the same problem only.
        """
        own, signature = self._sketch(row)
        if not own:
            return None
        estimates = {
            at: signature.jaccard(self._kept[at][1]) for at in self._index.query(signature)
        }
        likely = [at for at, estimate in estimates.items() if estimate >= SIMILARITY - _MARGIN]
        for at in sorted(likely, key=lambda at: (-estimates[at], at))[:_READ_AGAIN]:
            earlier = self._read(self._kept[at][0])
            theirs = _grams(earlier)
            shared = len(own & theirs)
            similarity = shared / (len(own) + len(theirs) - shared)
            if similarity >= SIMILARITY:
                return (
                    f"{percent(similarity, 0)} of the {GRAM_WORDS}-word runs are those of sample "
                    f"{earlier.sample} of {earlier.id!r}"
                )
        return None

    def remember(self, row: Trajectory, offset: int) -> None:
        """Add a row that passed; it can be read again at ``offset``."""
        said, signature = self._sketch(row)
        if said:
            self._index.insert(len(self._kept), signature)
            self._kept.append((offset, signature))

    def _sketch(self, row: Trajectory) -> _Sketch:
        """Return the runs of words of ``row`` and their signature, which hangs on no order."""
        if self._last is None or self._last[0] is not row:
            said = _grams(row)
            signature = self._new(num_perm=_PERMUTATIONS, seed=_SEED)
            signature.update(list(said))
            self._last = row, (said, signature)
        return self._last[1]


def load_library() -> ModuleType:
    """Return the library.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module("rensa")
    except ImportError:
        raise ConfigError(
            "finding near-duplicates needs the library rensa, which is not installed: "
            "pip install 'tessy[data]', or leave the rule out with --skip near_duplicate"
        ) from None


def _grams(row: Trajectory) -> set[str]:
    said = words(f"{row.thinking}\n{row.answer}")
    found = grams(said, GRAM_WORDS)
    if len(said) >= SHORT_WORDS:
        return found
    question = question_digest(row.messages)
    return {f"{question} {gram}" for gram in found}
