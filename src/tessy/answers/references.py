r"""Agreement of short final answers with references (pure).

For problems whose answer is a number, a choice or a few words, such as mathematics and quizzes. The
final answer of a text is the content of its last ``\boxed{}``. Without one, it is the last number
if the reference is a number; otherwise the last line, or its end after ``is``, ``are``, ``:`` or
``=``. Numbers are compared by exact value, other answers as text without letter case, markup and
extra white space. Formulas are not evaluated: ``x+1`` differs from ``1+x``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

SHORT_CHARS = 200
_BOXED = "\\boxed{"
_BRACE = re.compile(r"[{}]")
_GSM8K_MARK = "####"
_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
# A larger exponent could exhaust memory.
_NUMBER = rf"(?:{_DECIMAL})(?:[eE][+-]?[0-9]{{1,3}})?(?![0-9])"
_FRACTION = (
    r"\\frac\s?(?:\{(?P<over>[+-]?[0-9]+)\}\s?\{(?P<under>[0-9]+)\}|(?P<o>[0-9])(?P<u>[0-9]))"
)
_VALUE = re.compile(
    rf"(?P<sign>(?<![\w.)\]}}])[+-])?"
    rf"(?:{_FRACTION}|(?<![\w.^])(?<!\^\{{)(?P<top>{_NUMBER})(?:\s?/\s?(?P<bottom>{_NUMBER}))?)"
)
_WRAPPER = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathit|operatorname)\s?\{([^{}]*)\}")
_NOISE = re.compile(r"\\[,;:!()\[\] ]|\\(?:left|right)(?![a-z])|\^\{?\\circ\}?|°|\\?[%$]|\*\*|`")
_LEAD_IN = re.compile(r"[:=](?=.)|\b(?:is|are)\s", re.IGNORECASE)
_QUOTES = " \t\"'“”‘’"


def reference_of(row: Mapping[str, Any]) -> str | None:
    """Return the reference answer of a problem: its field ``reference``, else ``answer``.

    Args:
        row: Additional fields of the problem (``Problem.extra``, or ``problem`` of a finished row).

    Returns:
        The first field accepted by :func:`short_reference`; None without one.
    """
    references = (short_reference(row.get(name)) for name in ("reference", "answer"))
    return next((text for text in references if text is not None), None)


def short_reference(value: object) -> str | None:
    """Return ``value`` as a reference answer; None if answers cannot be compared with it.

    A reference is text or a number. Its final answer (see :func:`is_correct`) is not blank and has
    at most 200 characters; longer ones are solutions, which no answer repeats.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    return text if 0 < len(_reference(text).strip()) <= SHORT_CHARS else None


def is_correct(answer: str, reference: str) -> bool:
    r"""Return whether ``answer`` agrees with ``reference``.

    Args:
        answer: Answer of a model, of any length.
        reference: The reference answer, with or without a solution: the text after GSM8K's
            ``####`` is used, else its last ``\boxed{}``, else all of it. No answer agrees with an
            empty one.
    """
    expected = _clean(_reference(reference))
    if not expected:
        return False
    boxed = _last_boxed(answer)
    number = _value(expected)
    if boxed is not None:
        return any(_same(_clean(text), expected, number) for text in _candidates(boxed, expected))
    if number is not None:
        return _last_value(_clean(answer)) == number
    lines = answer.strip().splitlines()
    return bool(lines) and any(
        _same(_clean(text), expected, None) for text in _candidates(lines[-1], expected)
    )


def _reference(text: str) -> str:
    """Return the final answer of a reference."""
    _, mark, after = text.rpartition(_GSM8K_MARK)
    if mark:
        return after
    boxed = _last_boxed(text)
    return text if boxed is None else boxed


def _last_boxed(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{}`` that is closed."""
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.end())
        elif opened:
            start = opened.pop()
            if text.endswith(_BOXED, 0, start) and (last is None or start > last[0]):
                last = start, brace.start()
    return None if last is None else text[slice(*last)]


def _candidates(line: str, expected: str) -> Iterator[str]:
    """Yield the line, and its end after each position where an answer may begin."""
    line = line[-(4 * len(expected) + 200) :]  # a longer text never agrees
    yield line
    for match in _LEAD_IN.finditer(line):
        yield line[match.end() :]


def _same(text: str, expected: str, number: Fraction | None) -> bool:
    return text == expected or (number is not None and _value(text) == number)


def _clean(text: str) -> str:
    text = text.replace("{,}", ",").replace("−", "-").replace("…", " ").replace("...", " ")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = _NOISE.sub("", _WRAPPER.sub(r"\1", text))
    text = " ".join(text.split()).lstrip(_QUOTES).rstrip(_QUOTES + ".,;!")
    text = re.sub(r"^\(\s?([A-Za-z])\s?\)$", r"\1", text)  # a choice: "(B)" is "B"
    # "( 1, 2 )" equals "(1,2)", but "1 2" differs from "12".
    return re.sub(r"(?<=[(\[{,]) | (?=[)\]},])", "", text).casefold()


def _value(text: str) -> Fraction | None:
    match = _VALUE.fullmatch(text)
    return _read(match) if match else None


def _last_value(text: str) -> Fraction | None:
    last = None
    for match in _VALUE.finditer(text):
        last = match
    return _read(last) if last else None


def _read(match: re.Match[str]) -> Fraction | None:
    groups = match.groupdict()
    over, under = groups["over"] or groups["o"], groups["under"] or groups["u"]
    if over is None:
        over, under = groups["top"], groups["bottom"] or "1"
    try:
        value = Fraction(over.replace(",", "")) / Fraction((under or "1").replace(",", ""))
    except (ValueError, ZeroDivisionError):  # too many digits, or a denominator of 0
        return None
    return -value if (groups["sign"] or "").startswith("-") else value
