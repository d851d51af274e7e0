"""Forms that Math-Verify ignores: dates, bases, brackets, numbers of items, decimals (pure)."""

from __future__ import annotations

import re

# A date or a phone number, which Math-Verify reads as a difference or a quotient; "12_3".
_TEXT = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d+(?:-\d+)+|.*[\d)]_.*", re.DOTALL)
_ENCLOSED = re.compile(r"(?P<open>\\?[(\[{])(?P<inner>.*?)(?P<close>\\?[)\]}])", re.DOTALL)
_RELATION = re.compile(r"[<>=≤≥]|\\(?:[lg]eq?|in|neq?)(?![a-z])")
_IRRATIONAL = re.compile(r"\\(?:sqrt|pi|ln|log|exp|sin|cos|tan)(?![a-z])|[π√]")
_DECIMAL = re.compile(r"\d*\.\d")


def differ_in_form(text: str, expected: str) -> bool:
    """Return whether two different normalized formulas cannot agree because of their forms.

    - Dates, phone numbers and numbers with a base are texts.
    - Lists agree only with the same brackets and the same number of items; a set may lack its
      brackets. An inequality may agree with an interval.
    - A decimal is not an irrational number, even if it is a rounded one.
    """
    if _TEXT.fullmatch(text) or _TEXT.fullmatch(expected):
        return True
    if bool(_RELATION.search(text)) == bool(_RELATION.search(expected)):
        first, second = _brackets(text), _brackets(expected)
        if _items(text) != _items(expected):
            return True
        if first != second and {"", "{}"} != {first, second} and _items(text) > 1:
            return True
    kinds = {
        (_DECIMAL.search(part) is not None, _IRRATIONAL.search(part) is not None)
        for part in (text, expected)
    }
    return kinds == {(True, False), (False, True)}


def _brackets(text: str) -> str:
    match = _ENCLOSED.fullmatch(text)
    return (match["open"] + match["close"]).replace("\\", "") if match else ""


def _items(text: str) -> int:
    """Return the number of items of a list, without those of inner lists."""
    match = _ENCLOSED.fullmatch(text)
    depth, items = 0, 1
    for char in match["inner"] if match else text:
        depth += (char in "([{") - (char in ")]}")
        items += char == "," and depth <= 0
    return items
