"""Conversion between style spans and labels of predictor tokens (pure).

The conventions are those of the released checkpoints: class 1 is style, 0 capability; a token is
style if it starts inside a style span, or a span starts inside it; the output at a token is the
class of the next token. Tokens of only white space take the class of their word, so that a style
word before a line break does not have two classes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Literal

from tessy.boundary.base import STYLE_THRESHOLD, UnitScore
from tessy.boundary.classifier.window import WindowRule, non_empty_range
from tessy.core.edges import edges
from tessy.core.records import StyleSpan
from tessy.tokenization.token_ids import Codec

TokenClass = Literal[0, 1]
CAPABILITY: TokenClass = 0
STYLE: TokenClass = 1
IGNORED = -100  # the label PyTorch's cross entropy skips
SHIFT = 1  # tokens between an output and the token it classifies


@dataclass(frozen=True, slots=True)
class TokenOffsets:
    """A text as predictor tokens with their offsets in chars; L tokens.

    A token begins at the character that contains its first byte, and ends after that of its last
    byte, so tokens that share a character overlap there.
    """

    ids: tuple[int, ...]  # (L)
    starts: tuple[int, ...]  # (L)
    ends: tuple[int, ...]  # (L)
    units: tuple[int, ...]  # index of the unit of each token (L), from the start of the text
    blank: tuple[bool, ...]  # whether each token is only white space (L)

    def __len__(self) -> int:
        return len(self.ids)


def encode_text(codec: Codec, text: str, rule: WindowRule | None = None) -> TokenOffsets:
    """Encode ``text``, which starts at an edge, piece by piece, as inference does.

    Raises:
        InputError: ``text`` contains a lone surrogate.
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
        after = list(accumulate(len(char.encode()) for char in piece))  # end of each char, in bytes
        ids += piece_ids
        units += [unit] * len(piece_ids)
        for low, high in pairwise(bounds):
            starts.append(begin + bisect_left(after, low + 1))
            ends.append(begin + bisect_left(after, high) + 1)
    blank = (codec.token_bytes(i).isspace() for i in ids)
    return TokenOffsets(tuple(ids), tuple(starts), tuple(ends), tuple(units), tuple(blank))


def token_classes(tokens: TokenOffsets, style: Sequence[StyleSpan]) -> list[TokenClass]:
    """Return the class of each token (L); ``style`` spans are ascending and do not overlap."""
    classes: list[TokenClass] = []
    at = 0
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        while at < len(style) and style[at].end <= start:
            at += 1
        # style[at] is the first span that ends after `start`; style if it begins before `end`.
        classes.append(STYLE if at < len(style) and style[at].start < end else CAPABILITY)
    for _, members in groupby(range(len(tokens)), lambda i: tokens.units[i]):
        unit = list(members)
        word = [i for i in unit if not tokens.blank[i]]
        for i in unit if word else ():
            if tokens.blank[i]:  # takes the class of the next word token, or else of the last one
                classes[i] = classes[next((k for k in word if k > i), word[-1])]
    return classes


def next_token_labels(classes: Sequence[TokenClass]) -> list[int]:
    """Return labels (L): the class of the next token; the last label is :data:`IGNORED`."""
    return [*classes[1:], IGNORED] if classes else []


def token_scores(outputs: Sequence[float]) -> list[float | None]:
    """Return P(style) of each token (L); None for the first, which has no output before it."""
    return [None, *outputs[:-1]] if outputs else []


def class_of(score: float) -> TokenClass:
    """Return the class for P(style) ``score``."""
    return STYLE if score >= STYLE_THRESHOLD else CAPABILITY


def unit_tokens(tokens: TokenOffsets, start: int, end: int) -> range:
    """Return the indices of the tokens that begin in ``text[start:end]``, or the enclosing one.

    A token that begins inside a character has the offset of that character.
    """
    first, last = bisect_left(tokens.starts, start), bisect_left(tokens.starts, end)
    return range(*non_empty_range(first, last))


def deciding_tokens(unit: range, is_blank: Callable[[int], bool]) -> Sequence[int]:
    """Return the tokens that decide the class of a unit: all but white space after its word.

    White space before the word counts: it carries the class predicted for the unit before it was
    written, and a unit must get the same score whether or not it had been written.
    """
    if len(unit) == 1:  # the usual case
        return unit
    words = [i for i in unit if not is_blank(i)]
    return range(unit.start, words[-1] + 1) if words else unit


def unit_scores(
    tokens: TokenOffsets, outputs: Sequence[float], bounds: Sequence[int]
) -> tuple[UnitScore, ...]:
    """Return the scores of the units between ``bounds`` (chars), as a predictor computes them.

    ``outputs`` are P(style) of what follows each token (L). A unit without an output (the first
    token of a text) has score 1.
    """
    scores = token_scores(outputs)
    units = []
    for start, end in pairwise(bounds):
        inside = deciding_tokens(unit_tokens(tokens, start, end), tokens.blank.__getitem__)
        known = [s for i in inside if i < len(scores) and (s := scores[i]) is not None]
        units.append(UnitScore(known[0], min(known), max(known)) if known else UnitScore(1, 1, 1))
    return tuple(units)


def oracle_outputs(classes: Sequence[TokenClass]) -> list[float]:
    """Return the outputs (L) of a perfect predictor: P(style) of what follows each token.

    The output at the last token is 0 (capability), since its next token is unknown.
    """
    return [float(label == STYLE) for label in next_token_labels(classes)]
