"""A boundary predictor without training: a unit is style if it lies in a known phrase.

What counts is the union of all phrase occurrences, so a unit's class depends on its neighbours
alone: judging as the text grows gives the classes that judging it at once would give. A unit stays
undecided only while the last words written are the beginning of a phrase that would cover it; as
phrases have at most four words, that is three units at most.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tessy.boundary.base import Prediction, PredictionRequest, UnitScore
from tessy.boundary.phrases import (
    AFTER_PHRASE,
    ANYWHERE,
    AT_START,
    MAX_WORDS,
    WORD,
    Node,
    Phrases,
    plain,
)

MAX_CHAIN = 3  # at most this many phrases that count only because another one ends where they start
_STYLE = UnitScore(1.0, 1.0, 1.0)
_CAPABILITY = UnitScore(0.0, 0.0, 0.0)

# Between two words of a phrase, and between chained phrases: at most _GAP_CHARS characters.
_JOINS = re.compile(r"[,–—\-\"'“”‘’()*]{0,3} ?[\"'“‘(*]?")
_GAP_CHARS = 5
# A sentence ends in the gap: its end mark, then closing marks, white space and opening marks.
_ENDS = re.compile(
    r"(?:[.?!:;][\"'”’)\]}*$]*(?=\s)|\.{2}|[…–—\n])[\"'”’)\]}*$]*[\s\"'“‘(*\[#>•\-]*\Z"
)
_OPENS = re.compile(r"[\s\"'“‘(*\[#>•\-]*")
_MARKED = re.compile(r"[\"'”’)*]*[,.;:?!…–—\n]")
_ASKED = re.compile(r"[\"'”’)*]*\?")
# Beside words only these may stand in a unit of style; digits, brackets, dollar signs may not.
_PROSE = re.compile(r"[\s,.;:?!…–—\-\"'“”‘’()*]*")
_LONGEST_TRAIL = 4  # punctuation standing alone belongs to the phrase before it, up to here


class _Gap(NamedTuple):
    """What the characters between two words mean."""

    joins: bool  # a phrase may go on across them
    ends: bool  # a sentence starts after them
    marked: bool  # punctuation follows the word before them
    asked: bool  # a question mark does


@lru_cache(maxsize=4096)
def _gap(text: str) -> _Gap:
    return _Gap(
        joins=_JOINS.fullmatch(text) is not None,
        ends=_ENDS.search(text) is not None,
        marked=_MARKED.match(text) is not None,
        asked=_ASKED.match(text) is not None,
    )


def _is_prose(unit: str) -> bool:
    """Whether ``unit`` holds words and punctuation of prose, and no call like ``wait()``."""
    return "(" not in unit.lstrip()[1:] and _PROSE.fullmatch(WORD.sub("", unit)) is not None


class _PhraseMatcher:
    """Words of a stretch of text and which of them lie in phrases.

    Attributes:
        ends: Where each word ends, in chars.
        covered: Whether each word lies in a phrase.
        live: The first word that more text could still bring into a phrase.
    """

    __slots__ = ("_chained", "_gaps", "_words", "covered", "ends", "live")

    def __init__(self, text: str, phrases: Phrases, *, whole: bool) -> None:
        """Find every occurrence of every phrase.

        Args:
            text: What to read.
            phrases: What to look for.
            whole: ``text`` is the beginning of everything, so a sentence starts with it.
        """
        matches = list(WORD.finditer(text))
        self._words = [plain(match[0]) for match in matches]
        self.ends = [match.end() for match in matches]
        starts = [match.start() for match in matches] + [len(text)]
        self._gaps = [
            _gap(text[end:start]) for end, start in zip(self.ends, starts[1:], strict=True)
        ]
        self.covered = [False] * len(matches)
        self.live = len(matches)
        lead = text[: starts[0]]
        at_start = _gap(lead).ends or (whole and _OPENS.fullmatch(lead) is not None)
        # How many phrases a chain has that ends before each word; more than allowed: no chain.
        self._chained = [MAX_CHAIN + 1] * (len(matches) + 1)
        for first in range(len(matches)):
            self._match(first, phrases.root, at_start)
            at_start = self._gaps[first].ends

    def _match(self, first: int, node: Node, at_start: bool) -> None:
        """Cover the phrases that begin with the word ``first``."""
        chain = self._chained[first]
        allowed = ANYWHERE
        if chain <= MAX_CHAIN:
            allowed |= AT_START | AFTER_PHRASE
        elif at_start:
            allowed |= AT_START
        for last in range(first, len(self._words)):
            found = node.after.get(self._words[last])
            if found is None:
                return
            node = found
            gap = self._gaps[last]
            places = node.ends
            if gap.marked:
                places |= node.ends_marked
            if gap.asked:
                places |= node.ends_asked
            if places & allowed:
                self.covered[first : last + 1] = [True] * (last + 1 - first)
                own_right = places & ANYWHERE or (at_start and places & AT_START)
                if gap.joins:
                    length = 1 if own_right else chain + 1
                    self._chained[last + 1] = min(self._chained[last + 1], length)
            if not gap.joins:
                return
        if node.below & allowed:
            self.live = min(self.live, first)


class LexiconPredictor:
    """Judges units by a list of phrases; scores are 0 or 1."""

    name = "lexicon"
    sees_next = False
    lookahead = MAX_WORDS - 1

    def __init__(self, phrases: Phrases) -> None:
        """Judge by ``phrases``."""
        self._phrases = phrases
        self._possible = lru_cache(maxsize=16384)(self._possible_unit)
        self._may_belong = lru_cache(maxsize=16384)(self._links)
        # A chain that decides about a unit starts no further back than this.
        self._reach = (MAX_CHAIN + 2) * (phrases.longest_chars + MAX_WORDS * _GAP_CHARS)

    @classmethod
    def load(cls, extra: Path | None = None) -> LexiconPredictor:
        """With the built-in English phrases, and those of the file ``extra``.

        Raises:
            ConfigError: The file cannot be read, or lines of it are no phrase.
        """
        return cls(Phrases.load(extra))

    async def predict(self, view: PredictionRequest) -> Prediction:
        """Score the units of ``view``; the last three at most stay undecided."""
        return Prediction(self.scores(view))

    def release(self, key: str) -> None:
        """Nothing is kept between views."""

    async def aclose(self) -> None:
        """There are no threads to end."""

    def scores(self, view: PredictionRequest) -> tuple[UnitScore, ...]:
        """What :meth:`judge` says, as a pure function."""
        # Most units hold something no phrase holds; only the others cost a reading.
        possible = [self._possible(unit) for unit in view.units]
        if True not in possible:
            return (_CAPABILITY,) * len(possible)
        first = possible.index(True)
        offset = self._context_start(view.text, view.edges[first])
        reading = _PhraseMatcher(view.text[offset:], self._phrases, whole=offset == 0)
        scores = [_CAPABILITY] * first
        word = bisect_right(reading.ends, view.edges[first] - offset)
        for index in range(first, len(possible)):
            end = view.edges[index + 1] - offset
            before, word = word, bisect_right(reading.ends, end)
            style = possible[index]
            if style and word > before:
                missing = [i for i in range(before, word) if not reading.covered[i]]
                if missing and missing[0] >= reading.live and not view.final:
                    break
                style = not missing
            elif style:
                style = word > 0 and self._trails(reading, word - 1, view.text[offset:][:end])
            scores.append(_STYLE if style else _CAPABILITY)
        return tuple(scores)

    def _possible_unit(self, unit: str) -> bool:
        """Whether ``unit`` could be style somewhere."""
        words = WORD.findall(unit)
        return _is_prose(unit) and all(plain(word) in self._phrases.words for word in words)

    @staticmethod
    def _trails(reading: _PhraseMatcher, word: int, text: str) -> bool:
        """Whether ``text`` ends in punctuation that belongs to the phrase of ``word``."""
        trail = text[reading.ends[word] :].rstrip()
        return (
            reading.covered[word]
            and len(trail) <= _LONGEST_TRAIL
            and "\n" not in trail
            and (" " not in trail or _JOINS.fullmatch(trail.partition(" ")[0]) is not None)
            and _is_prose(trail)
        )

    def _context_start(self, text: str, end: int) -> int:
        """Where to begin reading so that every phrase that matters after ``end`` is seen whole.

        Phrases reach back only over words of phrases, separated by single spaces. The first piece
        that is none of these is read too: it tells whether a sentence starts after it.
        """
        low = max(0, end - self._reach)
        low = max(low, text.rfind("\n", low, end))
        position = end
        while position > low:
            space = text.rfind(" ", low, position)
            if space < 0:
                return low
            if not self._may_belong(text[space + 1 : position]):
                return space + 1
            position = space
        return low

    def _links(self, piece: str) -> bool:
        """Whether a phrase, or what trails it, may reach over ``piece``, which has no spaces."""
        words = WORD.findall(piece)
        if not words:
            return _is_prose(piece) or _OPENS.fullmatch(piece) is not None
        if any(plain(word) not in self._phrases.words for word in words):
            return False
        return all(_JOINS.fullmatch(gap) is not None for gap in WORD.split(piece))
