"""What a token classifier reads of a growing text: its tokens, and where its window starts (pure).

The text is encoded piece by piece, from edge to edge, so that text which stays gets the same ids
whatever follows. A window starts at a piece (its *anchor*) and grows; when the next piece would
overfill it, the anchor moves up until few tokens are left before that piece. Ids and anchors are a
function of the text alone, not of the steps in which it came, so a resumed sample is judged as the
first time.

The released code reads the last 200 tokens instead, whatever they begin with (METHOD): *sliding*
windows. What they say of a token depends on how much was written when it was judged.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tessy.core.edges import EdgeCursor, base_behind, edges
from tessy.tokenization.token_ids import Codec

SLIDING_TOKENS = 200  # what the released code reads


@dataclass(frozen=True, slots=True)
class WindowRule:
    """How long a window is.

    Attributes:
        limit: Tokens it never exceeds.
        keep: Tokens that stay, at most, before the piece that would have overfilled it (more only
            if the piece just before is longer than that). Half of ``limit`` at most, unless
            sliding.
        sliding: Windows have no anchor: they are the last ``keep`` tokens.
    """

    limit: int = 512
    keep: int = 200
    sliding: bool = False

    @property
    def piece_tokens(self) -> int:
        """Tokens read of one piece; the rest of a longer one (no word is) is left out."""
        return self.limit // 2

    def slide(self) -> WindowRule:
        """The released code's windows, or what the model can hold of them."""
        return replace(self, keep=min(SLIDING_TOKENS, self.limit), sliding=True)


class TokenWindow(NamedTuple):
    """Tokens ``[start, end)`` of a reading, to be read by the classifier as they are."""

    start: int
    end: int


class _SettledToken(NamedTuple):
    """Text that begins like ``text[:end]`` has its first ``pieces`` pieces before ``base``."""

    end: int
    base: EdgeCursor
    pieces: int


class _Marks:
    """Marks of a text, one for every word or two, with their ends ascending."""

    def __init__(self) -> None:
        """The mark of the empty text, which stays."""
        self._ends, self._offsets, self._pieces = array("i", [0]), array("i", [0]), array("i", [0])
        self._long = array("b", [False])

    def add(self, mark: _SettledToken) -> None:
        """Append ``mark``."""
        self._ends.append(mark.end)
        self._offsets.append(mark.base.offset)
        self._long.append(mark.base.long)
        self._pieces.append(mark.pieces)

    def last(self, end: int) -> _SettledToken:
        """The last one of ``text[:end]``; forgets those behind it."""
        count = bisect_right(self._ends, end)
        if count < len(self._ends):
            del self._ends[count:], self._offsets[count:], self._long[count:], self._pieces[count:]
        base = EdgeCursor(self._offsets[-1], bool(self._long[-1]))
        return _SettledToken(self._ends[-1], base, self._pieces[-1])


class TokenizedText:
    """A text as a classifier's tokens; reading a longer text redoes only what changed."""

    def __init__(self, codec: Codec, rule: WindowRule) -> None:
        """An empty text."""
        self._codec = codec
        self._rule = rule
        # Arrays: lists of numbers take nine times as much, and a thousand texts may be in flight.
        self._ends = array("i")  # chars, of each piece
        self._bounds = array("i", [0])  # the first token of each piece, and the end
        self._anchors = array("i")  # for each piece, the piece its window starts at
        self._marks = _Marks()
        self._kept = self._drafted = ""
        self._ids = array("i")

    def read(self, kept: str, drafted: str = "") -> None:
        """Make this the reading of ``kept + drafted``.

        They are not put together: ``kept`` may be long, and is not looked at as long as it is the
        same object.
        """
        common = self._common(kept, drafted)
        self._kept, self._drafted = kept, drafted
        mark = self._marks.last(common)
        self._truncate(mark.pieces)
        start = mark.base.offset
        assert start == (self._ends[-1] if self._ends else 0)
        new = self._text_from(start)
        self._extend(new, edges(new, long=mark.base.long), start)
        base = base_behind(new, mark.base)
        if base.offset > start:
            end = len(kept) + len(drafted)
            self._marks.add(_SettledToken(end, base, bisect_right(self._ends, base.offset)))

    def _common(self, kept: str, drafted: str) -> int:
        """How many leading characters of ``kept + drafted`` have been read."""
        before = self._kept
        if kept is before:
            return len(kept) + _common_prefix(self._drafted, drafted)
        if kept.startswith(before):
            return len(before) + _common_prefix(self._drafted, kept[len(before) :] + drafted)
        return _common_prefix(before + self._drafted, kept + drafted)

    def _text_from(self, start: int) -> str:
        """The text from ``start`` (chars) on."""
        beyond = start - len(self._kept)
        return self._drafted[beyond:] if beyond >= 0 else self._kept[start:] + self._drafted

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self._ids)

    @property
    def ids(self) -> list[int]:
        """The tokens of the text."""
        return self._ids.tolist()

    def ids_in(self, window: TokenWindow) -> array[int]:
        """The tokens of the text that ``window`` holds."""
        return self._ids[window.start : window.end]

    def tokens_of(self, start: int, end: int) -> tuple[int, int]:
        """The range of tokens that begin in ``text[start:end]``; the one around it if none do."""
        return some_tokens(self._token_at(start), self._token_at(end))

    def units_of(self, edges: Sequence[int], own_from: int) -> Iterator[range]:
        """:meth:`tokens_of` each unit between ``edges``, from ``own_from`` (chars) on."""
        first = self._token_at(max(edges[0], own_from))
        for end in edges[1:]:
            last = self._token_at(end)
            yield range(*some_tokens(first, last))
            first = last if end >= own_from else self._token_at(own_from)

    def is_blank(self, token: int) -> bool:
        """Whether a token is nothing but white space."""
        return self._codec.token_bytes(self._ids[token]).isspace()

    def windows(self, first: int) -> list[TokenWindow]:
        """Windows that say something about the tokens from ``first`` on and about what follows.

        The class of a token is said by the token before it, in the first window that holds both.
        """
        if self._rule.sliding:
            return self._last_tokens(first)
        bounds, anchors = self._bounds, self._anchors
        piece = max(0, min(bisect_right(bounds, first), len(anchors)) - 1)
        found: list[TokenWindow] = []
        while piece < len(anchors):
            end = bisect_right(anchors, anchors[piece], piece)  # anchors only move up
            found.append(TokenWindow(bounds[anchors[piece]], bounds[end]))
            piece = end
        return found

    def _last_tokens(self, first: int) -> list[TokenWindow]:
        """The last tokens; where that leaves some from ``first`` on out, earlier ones before."""
        keep = self._rule.keep
        found: list[TokenWindow] = []
        end = len(self._ids)
        while end and not (found and found[0].start < first):
            found.insert(0, TokenWindow(max(0, end - keep), end))
            # Half of a window is read again, so that no token is judged by what is just before it.
            end = found[0].start and found[0].start + keep // 2
        return found

    def _truncate(self, pieces: int) -> None:
        del self._ends[pieces:], self._anchors[pieces:], self._bounds[pieces + 1 :]
        del self._ids[self._bounds[-1] :]

    def _extend(self, text: str, edges: Sequence[int], start: int) -> None:
        """Take in the pieces of ``text``, which ``edges`` end; it begins at ``start`` (chars)."""
        encode, limit, most = self._codec.encode, self._rule.limit, self._rule.piece_tokens
        bounds, anchors, begin = self._bounds, self._anchors, 0
        anchor = anchors[-1] if anchors else 0
        opening, tokens = bounds[anchor], bounds[-1]
        for edge in edges:
            ids = encode(text[begin:edge])[:most]
            end = tokens + len(ids)
            if end - opening > limit:
                anchor = bisect_left(bounds, tokens - self._rule.keep)
                # One piece before it at least: the class of its first token is said there.
                anchor = min(anchor, len(anchors) - 1)
                opening = bounds[anchor]
            anchors.append(anchor)
            self._ends.append(start + edge)
            self._ids.extend(ids)
            bounds.append(end)
            tokens, begin = end, edge

    def _token_at(self, offset: int) -> int:
        """The first token that begins at ``offset`` (chars) or after it."""
        piece = bisect_left(self._ends, offset)
        if piece == len(self._ends):
            return len(self._ids)
        if self._ends[piece] == offset:
            return self._bounds[piece + 1]
        begin = self._ends[piece - 1] if piece else 0
        written = self._text_from(begin)[: offset - begin]
        target = len(written.encode("utf-8", "surrogatepass"))
        token, position = self._bounds[piece], 0
        while position < target and token < self._bounds[piece + 1]:
            position += len(self._codec.token_bytes(self._ids[token]))
            token += 1
        return token


def some_tokens(first: int, last: int) -> tuple[int, int]:
    """Tokens ``[first, last)``; the one around them if there are none."""
    return (first, last) if first < last else (max(0, first - 1), max(1, first))


def _common_prefix(first: str, second: str) -> int:
    """How many leading characters two texts share."""
    if second.startswith(first):
        return len(first)
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first.startswith(second[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low
