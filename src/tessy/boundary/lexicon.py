"""A boundary predictor without training: a unit is style if it lies in a known phrase.

All occurrences of phrases are style, so a unit's class depends only on its neighbours, and scoring
a growing text step by step gives the same classes as scoring it at once. A unit is undecided only
while the last words begin a phrase that would cover it: at most three units.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
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

MAX_CHAIN = 3  # maximum number of consecutive phrases that match only because they follow another
_STYLE = UnitScore(1.0, 1.0, 1.0)
_CAPABILITY = UnitScore(0.0, 0.0, 0.0)

# Between two words of a phrase, and between chained phrases: at most _GAP_CHARS characters.
_JOINS = re.compile(r"[,–—\-\"'“”‘’()*]{0,3} ?[\"'“‘(*]?")
_GAP_CHARS = 5
# A sentence end in the gap: its end mark, then closing marks, white space and opening marks.
_ENDS = re.compile(
    r"(?:[.?!:;][\"'”’)\]}*$]*(?=\s)|\.{2}|[…–—\n])[\"'”’)\]}*$]*[\s\"'“‘(*\[#>•\-]*\Z"
)
_OPENS = re.compile(r"[\s\"'“‘(*\[#>•\-]*")
_PUNCTUATION = re.compile(r"[\"'”’)*]*[,.;:?!…–—\n]")
_QUESTION_MARK = re.compile(r"[\"'”’)*]*\?")
# The characters allowed beside words in a unit of style: no digits, brackets or dollar signs.
_PROSE = re.compile(r"[\s,.;:?!…–—\-\"'“”‘’()*]*")
_LONGEST_TRAIL = 4  # chars of stand-alone punctuation that belong to the phrase before it


class _Gap(NamedTuple):
    """Properties of the characters between two words."""

    joins: bool  # a phrase may continue across them
    ends: bool  # a sentence starts after them
    punctuated: bool  # punctuation follows the word before them
    questioned: bool  # a question mark follows the word before them


@lru_cache(maxsize=4096)
def _gap(text: str) -> _Gap:
    return _Gap(
        joins=_JOINS.fullmatch(text) is not None,
        ends=_ENDS.search(text) is not None,
        punctuated=_PUNCTUATION.match(text) is not None,
        questioned=_QUESTION_MARK.match(text) is not None,
    )


def _is_prose(unit: str) -> bool:
    """Return whether ``unit`` is words and punctuation of prose, not a call like ``wait()``."""
    return "(" not in unit.lstrip()[1:] and _PROSE.fullmatch(WORD.sub("", unit)) is not None


class _PhraseMatcher:
    """The words of a text, and which of them lie in phrases.

    Attributes:
        ends: End offset of each word, in chars.
        covered: Whether each word lies in a phrase.
        live: Index of the first word that a phrase could still cover when more text follows.
    """

    __slots__ = ("_chained", "_gaps", "_words", "covered", "ends", "live")

    def __init__(self, text: str, phrases: Phrases, *, whole: bool) -> None:
        """Find all phrases; with ``whole``, a sentence starts with the text."""
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
        # Length of the chain of phrases that ends before each word; MAX_CHAIN + 1: no chain.
        self._chained = [MAX_CHAIN + 1] * (len(matches) + 1)
        for first in range(len(matches)):
            self._match(first, phrases.root, at_start)
            at_start = self._gaps[first].ends

    def _match(self, first: int, node: Node, at_start: bool) -> None:
        """Mark the words of phrases that begin with the word ``first``."""
        chain = self._chained[first]
        allowed = ANYWHERE
        if chain <= MAX_CHAIN:
            allowed |= AT_START | AFTER_PHRASE
        elif at_start:
            allowed |= AT_START
        for last in range(first, len(self._words)):
            child = node.after.get(self._words[last])
            if child is None:
                return
            node = child
            gap = self._gaps[last]
            places = node.ends
            if gap.punctuated:
                places |= node.ends_punctuated
            if gap.questioned:
                places |= node.ends_question
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
    """Scores units by a list of phrases; scores are 0 or 1."""

    name = "lexicon"
    sees_next = False
    lookahead = MAX_WORDS - 1

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases
        self._possible = lru_cache(maxsize=16384)(self._possible_unit)
        self._may_belong = lru_cache(maxsize=16384)(self._links)
        # Upper bound on how far back a chain that covers a unit can start, in chars.
        self._reach = (MAX_CHAIN + 2) * (phrases.longest_chars + MAX_WORDS * _GAP_CHARS)

    async def predict(self, request: PredictionRequest) -> Prediction:
        """Score the units of ``request``; at most the last three stay undecided."""
        return Prediction(self.scores(request))

    def release(self, key: str) -> None:
        """No-op: the predictor is stateless."""

    async def aclose(self) -> None:
        """No-op: there are no threads."""

    def scores(self, request: PredictionRequest) -> tuple[UnitScore, ...]:
        """Return the scores of :meth:`predict`, synchronously."""
        # Most units contain something that no phrase contains; only the others need a matcher.
        possible = [self._possible(unit) for unit in request.units]
        if True not in possible:
            return (_CAPABILITY,) * len(possible)
        first = possible.index(True)
        offset = self._context_start(request.text, request.edges[first])
        matcher = _PhraseMatcher(request.text[offset:], self._phrases, whole=offset == 0)
        scores = [_CAPABILITY] * first
        word = bisect_right(matcher.ends, request.edges[first] - offset)
        for index in range(first, len(possible)):
            end = request.edges[index + 1] - offset
            before, word = word, bisect_right(matcher.ends, end)
            style = possible[index]
            if style and word > before:
                missing = [i for i in range(before, word) if not matcher.covered[i]]
                if missing and missing[0] >= matcher.live and not request.final:
                    break
                style = not missing
            elif style:
                style = word > 0 and self._trails(matcher, word - 1, request.text[offset:][:end])
            scores.append(_STYLE if style else _CAPABILITY)
        return tuple(scores)

    def _possible_unit(self, unit: str) -> bool:
        """Return whether ``unit`` could be style in some context."""
        words = WORD.findall(unit)
        return _is_prose(unit) and all(plain(word) in self._phrases.words for word in words)

    @staticmethod
    def _trails(matcher: _PhraseMatcher, word: int, text: str) -> bool:
        """Return whether ``text`` ends in punctuation that belongs to the phrase of ``word``."""
        trail = text[matcher.ends[word] :].rstrip()
        return (
            matcher.covered[word]
            and len(trail) <= _LONGEST_TRAIL
            and "\n" not in trail
            and (" " not in trail or _JOINS.fullmatch(trail.partition(" ")[0]) is not None)
            and _is_prose(trail)
        )

    def _context_start(self, text: str, end: int) -> int:
        """Return the offset (chars) from which every phrase that matters after ``end`` is complete.

        Phrases extend back only over words of phrases, separated by single spaces. The piece before
        them is included: it determines whether a sentence starts after it.
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
        """Return whether a phrase or its trailing punctuation may span ``piece`` (no spaces)."""
        words = WORD.findall(piece)
        if not words:
            return _is_prose(piece) or _OPENS.fullmatch(piece) is not None
        if any(plain(word) not in self._phrases.words for word in words):
            return False
        return all(_JOINS.fullmatch(gap) is not None for gap in WORD.split(piece))
