"""Style spans and predictor tokens, into each other (pure).

The conventions are those of the released checkpoints (METHOD): class 1 is style, 0 capability; a
token is style if it starts inside a style span, or a span starts inside it; labels are shifted left
by one, so the output at a token is the class of the token after it. Tokens of nothing but white
space stand outside every span, and would make a style word before a line break a word of two
classes: they have the class of their word, and do not decide about it.

A text is encoded piece by piece, from edge to edge, as a
:class:`WindowRule` does, so training and inference see the same ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Literal

from tessy.boundary.base import STYLE_THRESHOLD, UnitScore
from tessy.boundary.classifier.window import WindowRule, some_tokens
from tessy.core.edges import edges
from tessy.core.records import StyleSpan
from tessy.tokenization.token_ids import Codec

TokenClass = Literal[0, 1]
CAPABILITY: TokenClass = 0
STYLE: TokenClass = 1
IGNORED = -100  # the label PyTorch's cross entropy skips
SHIFT = 1  # tokens between an output and the token it speaks of


@dataclass(frozen=True, slots=True)
class TokenOffsets:
    """A text as predictor tokens; L of them.

    Attributes:
        ids: The tokens (L).
        starts: Where each begins (L), in chars: the character that its first byte belongs to.
        ends: Where each ends (L), in chars: after the character that its last byte belongs to.
            Tokens that share a character overlap there.
        units: Which unit each is of (L), counted from the start of the text.
        blank: Whether each is nothing but white space (L).
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    units: tuple[int, ...]
    blank: tuple[bool, ...]

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    def first(self, count: int) -> TokenOffsets:
        """The first ``count`` tokens."""
        return TokenOffsets(
            self.ids[:count],
            self.starts[:count],
            self.ends[:count],
            self.units[:count],
            self.blank[:count],
        )


def tokens_of(codec: Codec, text: str, rule: WindowRule | None = None) -> TokenOffsets:
    """Encode ``text`` from edge to edge.

    Args:
        codec: Of the predictor's tokenizer.
        text: Text that starts at an edge.
        rule: How much of one piece is read, as in a :class:`WindowRule`.

    Raises:
        InputError: ``text`` holds a lone surrogate.
    """
    longest = (rule or WindowRule()).piece_tokens
    ids: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    units: list[int] = []
    for unit, (begin, end) in enumerate(pairwise((0, *edges(text)))):
        piece = text[begin:end]
        piece_ids = codec.encode(piece)[:longest]
        bounds = list(accumulate((len(codec.token_bytes(i)) for i in piece_ids), initial=0))
        after = list(accumulate(len(char.encode()) for char in piece))  # bytes, of each character
        ids += piece_ids
        units += [unit] * len(piece_ids)
        for low, high in pairwise(bounds):
            starts.append(begin + bisect_left(after, low + 1))
            ends.append(begin + bisect_left(after, high) + 1)
    blank = (codec.token_bytes(i).isspace() for i in ids)
    return TokenOffsets(tuple(ids), tuple(starts), tuple(ends), tuple(units), tuple(blank))


def token_classes(tokens: TokenOffsets, style: Sequence[StyleSpan]) -> list[TokenClass]:
    """The class of each token (L).

    Args:
        tokens: Of the text the spans are in.
        style: Ascending spans that do not overlap.
    """
    classes: list[TokenClass] = []
    at = 0
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        while at < len(style) and style[at].end <= start:
            at += 1
        # The first span not over yet: the token starts in it, or it starts in the token.
        classes.append(STYLE if at < len(style) and style[at].start < end else CAPABILITY)
    for _, members in groupby(range(len(tokens)), lambda i: tokens.units[i]):
        unit = list(members)
        word = [i for i in unit if not tokens.blank[i]]
        for i in unit if word else ():
            if tokens.blank[i]:  # of what comes next; at the end of the unit, of what came last
                classes[i] = classes[next((k for k in word if k > i), word[-1])]
    return classes


def next_token_labels(classes: Sequence[TokenClass]) -> list[int]:
    """Labels (L): at each token the class of the one after it; the last one is :data:`IGNORED`."""
    return [*classes[SHIFT:], *[IGNORED] * min(SHIFT, len(classes))]


def own_scores(outputs: Sequence[float]) -> list[float | None]:
    """P(style) of each token (L), from the outputs at the tokens; None where none speaks of it.

    Args:
        outputs: P(style) of what follows each token (L).
    """
    return [*[None] * min(SHIFT, len(outputs)), *outputs[: max(0, len(outputs) - SHIFT)]]


def class_of(score: float, threshold: float = STYLE_THRESHOLD) -> TokenClass:
    """The class that P(style) stands for."""
    return STYLE if score >= threshold else CAPABILITY


def unit_tokens(tokens: TokenOffsets, start: int, end: int) -> range:
    """Tokens (indices) that begin in ``text[start:end]``; the one around it if none do.

    A token that begins inside a character belongs to where that character is.
    """
    first, last = bisect_left(tokens.starts, start), bisect_left(tokens.starts, end)
    return range(*some_tokens(first, last))


def deciding(unit: range, is_blank: Callable[[int], bool]) -> Sequence[int]:
    """The tokens that say what a unit is: all but white space behind its word.

    White space before the word does decide: its class is what was known of the unit before any of
    it was written, and a unit must be judged alike whether it was there already or not.

    Args:
        unit: The unit's tokens.
        is_blank: Whether a token is nothing but white space.
    """
    if len(unit) == 1:  # as most are: it decides, blank or not
        return unit
    words = [i for i in unit if not is_blank(i)]
    return range(unit.start, words[-1] + 1) if words else unit


def unit_scores(
    tokens: TokenOffsets, outputs: Sequence[float], bounds: Sequence[int]
) -> tuple[UnitScore, ...]:
    """Scores of units, as a predictor judges them.

    Args:
        tokens: Of the text (L).
        outputs: P(style) of what follows each token (L).
        bounds: Ascending offsets (chars); the units lie between neighbours.

    Returns:
        One score a unit; 1 for a unit no output speaks of (the first token of a text).
    """
    scores = own_scores(outputs)
    found = []
    for start, end in pairwise(bounds):
        inside = deciding(unit_tokens(tokens, start, end), tokens.blank.__getitem__)
        known = [s for i in inside if i < len(scores) and (s := scores[i]) is not None]
        found.append(UnitScore(known[0], min(known), max(known)) if known else UnitScore(1, 1, 1))
    return tuple(found)


def class_scores(classes: Sequence[TokenClass]) -> list[float]:
    """The outputs (L) of a predictor that is always right: P(style) of what follows each token.

    Nothing is known of what follows the last one; capability stands there.
    """
    return [float(label == STYLE) for label in next_token_labels(classes)]
