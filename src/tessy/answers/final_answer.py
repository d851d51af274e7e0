r"""Final answer of a text: the content of its last ``\boxed{}``, and its normal form (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

_BOXED = re.compile(r"\\(?:f?boxed|fbox)\s?\{")
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
# "12 cm", "3 m/s", "40 apples": a single letter without a space is a variable ("5x").
_UNIT = re.compile(
    rf"(?P<number>[+-]?(?:{_FRACTION}|{_NUMBER}(?:/{_NUMBER})?))"
    r"\s(?P<unit>[a-zµμΩ]+(?:[\s/·*][a-z]+){0,3}(?:\^?\{?[23²³]\}?)?)"
)
_MIXED = re.compile(
    rf"(?P<minus>-)?(?P<whole>[0-9]{{1,9}})(?:\s|(?=\\))(?P<rest>[0-9]+/[0-9]+|{_FRACTION})"
)
# A number beside one of these is a part of a formula, a list or a range, and no answer.
_OPERATOR = r"[-–+*/×÷·^_<>≤≥]"
_PART_BEFORE = re.compile(
    rf"(?:(?:\d|\b[a-z]|[)}}\]])\s*{_OPERATOR}|\d\s*[:,]?|[{{^_√\\]|\\[a-z]+"
    r"|\d\s*(?:or|and|to|times|plus|minus|mod|of|by)|\bnot)\s*$"
)
_PART_AFTER = re.compile(
    rf"(?!(?:cm|mm|km|kg|ft|min)\b)[a-z!^_:(]|\s*\\|\s*{_OPERATOR}\s*(?:\d|[a-z]\b|[({{\\])"
    r"|\s*(?:(?:million|billion|trillion|hundred|thousand|dozen)s?|[xnyk])\b|\s*(?:or|to)\s+\d"
)
_CLAUSE_END = re.compile(r"[.;!?](?:\s|$)|,\s|\(")
_CJK_BORDER = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff])(?=[-\d\\])")
_CJK_MARKS = str.maketrans("。，：；！？（）", ".,:;!?()")
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s?\{([^{}]*)\}"
)
_NOISE = re.compile(r"\\[!()\[\]]|\\(?:left|right)(?![a-z])|\^\{?\\circ\}?|°|\\?[%$]|\*\*|`")
_SPACE = re.compile(r"\\(?:[,;: ]|quad|qquad)|~")
_STATED = re.compile(r"(?:\banswer|答案)\s?(?:is|:|=|是|为)\s?")
_LEAD_IN = re.compile(r"[:=：是为](?=.)|\b(?:is|are)\s", re.IGNORECASE)
_ANSWER = re.compile(r"\b(?:answer|choice|option)\b|答案", re.IGNORECASE)
_OTHER = re.compile(r"\b(?:or|not)\b", re.IGNORECASE)  # "x = 1 or x = 2"
_QUOTES = " \t\"'“”‘’"


def without_thoughts(text: str) -> str:
    """Return what follows the last ``</think>``; without one, the text."""
    return text.rpartition("</think>")[2]


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
    """Return the last number after "answer is" or "answer:" in a text without markup.

    Of a calculation, "answer is 3 times 4 = 12", it is the number after ``=``.
    """
    last = None
    for match in _STATED.finditer(text):
        end = _CLAUSE_END.search(text, match.end())
        equal = text.rfind("=", match.end(), end.start() if end else len(text))
        start = match.end() if equal < 0 else equal + 1
        number = _VALUE.match(text, start + text.startswith(" ", start))
        if number and not _is_part(text, number):
            last = number
    return _value(last) if last else None


def candidates(line: str, max_chars: int, *, boxed: bool, letter: bool) -> Iterator[str]:
    """Yield the end of a line, and its part after each position where an answer may begin.

    Args:
        line: Content of a box, or a line of an answer.
        max_chars: Length of the end.
        boxed: Whether it is a box, which has at most one such position: "x=1 or x=2" has none.
        letter: Whether the answer is one letter, which must follow "answer": "This is a".
    """
    line = line[-max_chars:]
    yield line
    matches = list(_LEAD_IN.finditer(line))
    for match in matches if not boxed or len(matches) == 1 else []:
        before = line[: match.start()]
        if not _OTHER.search(before) and (not letter or _ANSWER.search(before)):
            yield line[match.end() :]


def without_markup(text: str) -> str:
    """Return ``text`` without letter case, LaTeX's text commands, separators and quotes."""
    text = text.replace("−", "-").replace("…", " ").replace("...", " ").translate(_CJK_MARKS)
    text = _CJK_BORDER.sub(" ", text)
    text = _THOUSANDS.sub(lambda match: re.sub(r"[^0-9]", "", match[0]), text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    # A space keeps the unit of "12\\text{cm}" apart from its number.
    text = _SPACE.sub(" ", _WRAPPER.sub(r" \1 ", text))
    text = " ".join(_NOISE.sub("", text).split()).strip(_QUOTES).rstrip(_QUOTES + ".,;")
    return re.sub(r"(?<=[^\W\d_]{2})!+$", "", text).casefold()  # but "6!" is a factorial


def normalize(text: str) -> str:
    """Return a short answer without markup and without white space that has no meaning.

    White space remains between two words or numbers: "1 2" differs from "12".
    """
    text = re.sub(r"(?<!\w) | (?!\w)", "", without_markup(text))
    text = re.sub(r"_\{(\w+)\}", r"_\1", text)
    return re.sub(r"^\((\w)\)$", r"\1", text)  # a choice: "(B)" is "B"


def value_of(text: str) -> Fraction | None:
    """Return the value of a normalized text that is a number; None for any other text."""
    match = _VALUE.fullmatch(text)
    if match is not None:
        return _value(match)
    mixed = _MIXED.fullmatch(text)  # "1 3/10"
    rest = value_of(mixed["rest"]) if mixed else None
    if mixed is None or rest is None:
        return None
    value = int(mixed["whole"]) + rest
    return -value if mixed["minus"] else value


def last_value(text: str) -> Fraction | None:
    """Return the value of the last number in a text without markup.

    None without one, or if it is a part of a formula, a list or a range.
    """
    last = None
    for match in _VALUE.finditer(text):
        last = match
    return _value(last) if last and not _is_part(text, last) else None


def split_unit(text: str) -> tuple[str, str]:
    """Return the number and the unit of a normalized quantity; the text and "" for another one."""
    match = _UNIT.fullmatch(text)
    return (match["number"], match["unit"]) if match else (text, "")


def _is_part(text: str, number: re.Match[str]) -> bool:
    before = text[max(0, number.start() - 40) : number.start()]
    return bool(_PART_BEFORE.search(before) or _PART_AFTER.match(text, number.end()))


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
