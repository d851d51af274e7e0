"""A trace as places of style before capability (pure).

Units with digits, operators or code are capability, whatever the rule says: they carry the content.
So are all units of fenced blocks of code, comments included.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from tessy.boundary.base import PredictionRequest, UnitScore
from tessy.boundary.cut import Cut, kind_of
from tessy.core.edges import edges
from tessy.core.records import StyleSpan

# Digits, numerals, mathematical and currency signs. Other signs of formulas and code follow.
_CONTENT = frozenset({"Nd", "Nl", "No", "Sm", "Sc"})
_SIGNS = frozenset("`\\{}[]_^#@&*/%|~")
_CALL = re.compile(r"\w\(")
# Blocks of code; one that is not closed ends with the text.
_FENCED = re.compile(r"^[ ]{0,3}(`{3,}|~{3,}).*?(?:^[ ]{0,3}\1|\Z)", re.DOTALL | re.MULTILINE)
_HYPHEN = "-"  # alone it is a minus sign


class Place(NamedTuple):
    """Style of the trace, and the capability that follows it.

    The style is empty before capability at the start of the trace, the capability after the last
    style. Both are as written, with white space.
    """

    style: str
    capability: str


@lru_cache(maxsize=16384)
def is_content(unit: str) -> bool:
    """Return whether a unit has digits, operators or code, and so is never replaced."""
    if unit.strip() == _HYPHEN or _CALL.search(unit):
        return True
    return any(char in _SIGNS or unicodedata.category(char) in _CONTENT for char in unit)


def split_request(key: str, thinking: str) -> PredictionRequest:
    """Return the request that classifies every unit of a finished thinking."""
    return PredictionRequest(key, thinking, (0, *edges(thinking)), final=True)


def style_by_scores(
    request: PredictionRequest, scores: Sequence[UnitScore], cut: Cut
) -> list[bool]:
    """Return which units are style; those with tokens of both classes are not."""
    style = [kind_of(score, cut) == "style" for score in scores]
    return _without_content(request, style)


def _without_content(request: PredictionRequest, style: Sequence[bool]) -> list[bool]:
    """Return ``style`` without units of content and those of code blocks."""
    code = [match.span() for match in _FENCED.finditer(request.text)]
    return [
        own and not is_content(unit) and not any(begin <= start < end for begin, end in code)
        for own, unit, start in zip(style, request.units, request.edges[:-1], strict=True)
    ]


def style_by_spans(request: PredictionRequest, spans: Sequence[StyleSpan]) -> list[bool]:
    """Return which units are style: those whose words lie in annotated spans."""
    covered = bytearray(len(request.text))
    for span in spans:
        covered[span.start : span.end] = b"\1" * (span.end - span.start)
    style = []
    for start, unit in zip(request.edges[:-1], request.units, strict=True):
        words = [index for index, char in enumerate(unit, start) if not char.isspace()]
        style.append(all(covered[index] for index in words))
    return _without_content(request, style)


def places_of(request: PredictionRequest, style: Sequence[bool]) -> list[Place]:
    """Return the places of a thinking; joined, they are its text."""
    bounds = [0]
    bounds += [request.edges[i] for i in range(1, len(style)) if style[i] != style[i - 1]]
    bounds.append(len(request.text))
    parts = [request.text[start:end] for start, end in pairwise(bounds)]
    if not style[0]:
        parts.insert(0, "")  # style is first
    if len(parts) % 2:
        parts.append("")  # capability is last
    return [Place(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]


def blank_end(text: str) -> str:
    """Return the white space at the end of a text."""
    return text[len(text.rstrip()) :]
