"""The input of a token classifier for a growing text: tokens and windows (pure).

The text is encoded piece by piece, from edge to edge, so that a prefix has the same ids whatever
follows. A window starts at a piece (its *anchor*) and grows; when the next piece would exceed its
limit, the anchor moves up until at most ``keep`` tokens are left before that piece. Ids and anchors
depend on the text alone, so a resumed sample gets the same scores. The *sliding* windows of the
code released with arXiv 2604.14164 are the last 200 tokens: their scores depend on the steps.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tessy.core.edges import EdgeCursor, advance_cursor, edges
from tessy.tokenization.token_ids import Codec

SLIDING_TOKENS = 200  # window of the released code


@dataclass(frozen=True, slots=True)
class WindowRule:
    """The length of windows, in tokens."""

    limit: int = 512
    # Maximum tokens kept before the piece that exceeded the limit; a longer piece directly before
    # it is kept whole. At most half of the limit, unless sliding.
    keep: int = 200
    sliding: bool = False  # windows have no anchor: they are the last `keep` tokens

    @property
    def piece_tokens(self) -> int:
        """Maximum tokens of one piece; a longer one is truncated."""
        return self.limit // 2

    def scaled(self, limit: int) -> WindowRule:
        """Return windows of at most ``limit`` tokens, with the same proportions."""
        return WindowRule(limit, limit * self.keep // self.limit)

    def as_sliding(self) -> WindowRule:
        """Return the sliding windows of the released code, within the limit of the model."""
        return replace(self, keep=min(SLIDING_TOKENS, self.limit), sliding=True)


class TokenWindow(NamedTuple):
    """Tokens ``[start, end)`` of a tokenized text: one input of the classifier."""

    start: int
    end: int


class TokenizedText:
    """A text as tokens of a classifier, updated incrementally; empty at first."""

    def __init__(self, codec: Codec, rule: WindowRule) -> None:
        self._codec = codec
        self._rule = rule
        # Arrays take less memory than lists, and a thousand texts may be in flight.
        self._ends = array("i")  # end of each piece, in chars
        self._bounds = array("i", [0])  # first token of each piece, and the number of tokens
        self._anchors = array("i")  # for each piece, the piece where its window starts
        # Points from which the tokenization can resume, about one per word. A text with the same
        # first `end` chars has the same first `pieces` pieces, up to the offset of the cursor.
        self._stable = array("i", [0] * 4)  # of each: end, pieces, and the fields of the cursor
        self._kept = self._drafted = ""
        self._ids = array("i")

    def update(self, kept: str, drafted: str = "") -> None:
        """Replace the text by ``kept + drafted``; only what changed is encoded again.

        ``kept`` may be long: it is not copied, nor compared while it is the same object.
        """
        common = self._common(kept, drafted)
        self._kept, self._drafted = kept, drafted
        while self._stable[-4] > common:
            del self._stable[-4:]
        _, pieces, start, long = self._stable[-4:]
        del self._ends[pieces:], self._anchors[pieces:], self._bounds[pieces + 1 :]
        del self._ids[self._bounds[-1] :]
        cursor = EdgeCursor(start, bool(long))
        assert start == (self._ends[-1] if self._ends else 0)
        new = self._text_from(start)
        self._extend(new, edges(new, long=cursor.long), start)
        base = advance_cursor(new, cursor)
        if base.offset > start:
            pieces = bisect_right(self._ends, base.offset)
            self._stable.extend((len(kept) + len(drafted), pieces, base.offset, base.long))

    def _common(self, kept: str, drafted: str) -> int:
        """Return how many leading characters of ``kept + drafted`` are unchanged."""
        before = self._kept
        if kept is before:
            return len(kept) + _common_prefix(self._drafted, drafted)
        if kept.startswith(before):
            return len(before) + _common_prefix(self._drafted, kept[len(before) :] + drafted)
        return _common_prefix(before + self._drafted, kept + drafted)

    def _text_from(self, start: int) -> str:
        beyond = start - len(self._kept)
        return self._drafted[beyond:] if beyond >= 0 else self._kept[start:] + self._drafted

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> list[int]:
        """The tokens of the text."""
        return self._ids.tolist()

    def ids_in(self, window: TokenWindow) -> array[int]:
        """Return the tokens in ``window``."""
        return self._ids[window.start : window.end]

    def token_range(self, start: int, end: int) -> tuple[int, int]:
        """Return the tokens that begin in ``text[start:end]``; the enclosing one if none do."""
        return non_empty_range(self._token_at(start), self._token_at(end))

    def unit_ranges(self, edges: Sequence[int], own_from: int) -> Iterator[range]:
        """Yield the :meth:`token_range` of each unit between ``edges`` (chars).

        Tokens that begin before ``own_from`` (chars) are left out.
        """
        first = self._token_at(max(edges[0], own_from))
        for end in edges[1:]:
            last = self._token_at(end)
            yield range(*non_empty_range(first, last))
            first = last if end >= own_from else self._token_at(own_from)

    def is_blank(self, token: int) -> bool:
        """Return whether a token is only white space."""
        return self._codec.token_bytes(self._ids[token]).isspace()

    def windows(self, first: int) -> list[TokenWindow]:
        """Return the windows that score the tokens from ``first`` on, and what follows them.

        A token is scored by the output at the token before it, in the first window with both.
        """
        if self._rule.sliding:
            return self._last_tokens(first)
        bounds, anchors = self._bounds, self._anchors
        piece = max(0, min(bisect_right(bounds, first), len(anchors)) - 1)
        windows: list[TokenWindow] = []
        while piece < len(anchors):
            end = bisect_right(anchors, anchors[piece], piece)  # anchors only move up
            windows.append(TokenWindow(bounds[anchors[piece]], bounds[end]))
            piece = end
        return windows

    def _last_tokens(self, first: int) -> list[TokenWindow]:
        """Return the window of the last tokens, preceded by earlier ones as far as ``first``."""
        keep = self._rule.keep
        windows: list[TokenWindow] = []
        end = len(self._ids)
        while end and not (windows and windows[0].start < first):
            windows.insert(0, TokenWindow(max(0, end - keep), end))
            # Windows overlap by half, so that every token has at least that much context.
            end = windows[0].start and windows[0].start + keep // 2
        return windows

    def _extend(self, text: str, edges: Sequence[int], start: int) -> None:
        """Append the pieces of ``text``, which end at ``edges``; it starts at ``start`` (chars)."""
        encode, limit, piece_limit = self._codec.encode, self._rule.limit, self._rule.piece_tokens
        bounds, anchors, begin = self._bounds, self._anchors, 0
        anchor = anchors[-1] if anchors else 0
        opening, tokens = bounds[anchor], bounds[-1]
        for edge in edges:
            ids = encode(text[begin:edge])[:piece_limit]
            end = tokens + len(ids)
            if end - opening > limit:
                anchor = bisect_left(bounds, tokens - self._rule.keep)
                # Keep at least one piece before it: its first token is scored there.
                anchor = min(anchor, len(anchors) - 1)
                opening = bounds[anchor]
            anchors.append(anchor)
            self._ends.append(start + edge)
            self._ids.extend(ids)
            bounds.append(end)
            tokens, begin = end, edge

    def _token_at(self, offset: int) -> int:
        """Return the first token that begins at or after ``offset`` (chars)."""
        piece = bisect_left(self._ends, offset)
        if piece == len(self._ends):
            return len(self._ids)
        if self._ends[piece] == offset:
            return self._bounds[piece + 1]
        begin = self._ends[piece - 1] if piece else 0
        prefix = self._text_from(begin)[: offset - begin]
        target = len(prefix.encode("utf-8", "surrogatepass"))
        token, position = self._bounds[piece], 0
        while position < target and token < self._bounds[piece + 1]:
            position += len(self._codec.token_bytes(self._ids[token]))
            token += 1
        return token


def non_empty_range(first: int, last: int) -> tuple[int, int]:
    """Return ``[first, last)`` if it is not empty, otherwise the enclosing token."""
    return (first, last) if first < last else (max(0, first - 1), max(1, first))


def _common_prefix(first: str, second: str) -> int:
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
