r"""Final answer of a text: the content of its last ``\boxed{}``, and its normal form (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

_BOXED = re.compile(r"\\f?boxed\s?\{")
_BRACE = re.compile(r"[{}]")
_THOUSANDS = re.compile(
    r"(?<![0-9.,])[0-9]{1,3}(?:(?:,|\{,\}|\\[,!])[0-9]{3})+(?![0-9]|,[0-9]|\\[,!][0-9])"
)
# A larger exponent could exhaust memory.
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?(?![0-9])"
_FRACTION = (
    r"\\frac\s?(?:\{(?P<over>[+-]?[0-9]+)\}\s?\{(?P<under>[0-9]+)\}|(?P<o>[0-9])(?P<u>[0-9]))"
)
_VALUE = re.compile(
    rf"(?P<sign>(?<![\w.)\]}}])[+-])?"
    rf"(?:{_FRACTION}|(?<![\w.^])(?<!\^\{{)(?P<top>{_NUMBER})(?:\s?/\s?(?P<bottom>{_NUMBER}))?)"
)
# "12 cm", "3 m/s", "40 square feet": a single letter without a space is a variable ("5x").
_UNIT = re.compile(
    rf"(?P<number>[+-]?(?:{_FRACTION}|{_NUMBER}(?:/{_NUMBER})?))"
    r"\s(?P<unit>[a-zµμΩ]+(?:[\s/·*][a-z]+){0,3}(?:\^?\{?[23²³]\}?)?)"
)
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s?\{([^{}]*)\}"
)
_NOISE = re.compile(r"\\[!()\[\]]|\\(?:left|right)(?![a-z])|\^\{?\\circ\}?|°|\\?[%$]|\*\*|`")
_SPACE = re.compile(r"\\(?:[,;: ]|quad|qquad)|~")
_STATED = re.compile(r"\banswer\s?(?:is|:|=)\s?")
_LEAD_IN = re.compile(r"[:=](?=.)|\b(?:is|are)\s", re.IGNORECASE)
_QUOTES = " \t\"'“”‘’"


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{}`` that is closed."""
    starts = {match.end() for match in _BOXED.finditer(text)}
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.end())
        elif opened:
            start = opened.pop()
            if start in starts and (last is None or start > last[0]):
                last = start, brace.start()
    return None if last is None else text[slice(*last)]


def boxed_in_last_line(text: str) -> list[str]:
    r"""Return the contents of all ``\boxed{}`` in the last line that has one."""
    lines = [line for line in text.splitlines() if _BOXED.search(line)]
    return re.findall(_BOXED.pattern + r"([^{}]*)\}", lines[-1]) if lines else []


def stated_value(text: str) -> Fraction | None:
    """Return the last number after "answer is" or "answer:" in a text without markup."""
    last = None
    for match in _STATED.finditer(text):
        last = _VALUE.match(text, match.end()) or last
    return _value(last) if last else None


def candidates(line: str, max_chars: int) -> Iterator[str]:
    """Yield the end of a line, and its part after each position where an answer may begin."""
    line = line[-max_chars:]
    yield line
    for match in _LEAD_IN.finditer(line):
        yield line[match.end() :]


def without_markup(text: str) -> str:
    """Return ``text`` without letter case, LaTeX's text commands, separators and quotes."""
    text = text.replace("−", "-").replace("…", " ").replace("...", " ")
    text = _THOUSANDS.sub(lambda match: re.sub(r"[^0-9]", "", match[0]), text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    # A space keeps the unit of "12\\text{cm}" apart from its number.
    text = _SPACE.sub(" ", _WRAPPER.sub(r" \1 ", text))
    return " ".join(_NOISE.sub("", text).split()).strip(_QUOTES).rstrip(_QUOTES + ".,;!").casefold()


def normalize(text: str) -> str:
    """Return a short answer without markup and without white space that has no meaning.

    White space remains between two words or numbers: "1 2" differs from "12".
    """
    text = re.sub(r"(?<!\w) | (?!\w)", "", without_markup(text))
    return re.sub(r"^\((\w)\)$", r"\1", text)  # a choice: "(B)" is "B"


def value_of(text: str) -> Fraction | None:
    """Return the value of a normalized text that is a number; None for any other text."""
    match = _VALUE.fullmatch(text)
    return _value(match) if match else None


def last_value(text: str) -> Fraction | None:
    """Return the value of the last number in a text without markup; None without one."""
    values = list(_VALUE.finditer(text))
    return _value(values[-1]) if values else None


def split_unit(text: str) -> tuple[str, str]:
    """Return the number and the unit of a normalized quantity; the text and "" for another one."""
    match = _UNIT.fullmatch(text)
    return (match["number"], match["unit"]) if match else (text, "")


def _value(match: re.Match[str]) -> Fraction | None:
    groups = match.groupdict()
    over, under = groups["over"] or groups["o"], groups["under"] or groups["u"]
    if over is None:
        over, under = groups["top"], groups["bottom"] or "1"
    try:
        value = Fraction(over) / Fraction(under or "1")
    except (ValueError, ZeroDivisionError):  # too many digits, or a denominator of 0
        return None
    return -value if (groups["sign"] or "").startswith("-") else value
