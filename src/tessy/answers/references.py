r"""Agreement of short final answers with references (pure).

For problems whose answer is a number, a choice or a few words: mathematics, quizzes. What an
answer is taken to be the content of its last ``\boxed{}``; without one, its last number where the
reference is a number, and its last line, or the end of that line behind ``is``, ``are``, ``:`` or
``=``, where it is not. Numbers are compared by value, exactly; anything else as text without
letter case, markup and needless white space. Formulas are not solved: ``x+1`` is not ``1+x``.
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
# A larger exponent is no answer, but could fill the memory.
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
    """Return the reference answer a problem came with: its ``reference``, else its ``answer``.

    Args:
        row: The fields beside the problem (``Problem.extra``, or ``problem`` of a finished row).

    Returns:
        What :func:`short_reference` takes; None if neither field holds such.
    """
    found = (short_reference(row.get(name)) for name in ("reference", "answer"))
    return next((text for text in found if text is not None), None)


def short_reference(value: object) -> str | None:
    """``value`` as a reference that an answer can be held to; None if it is none.

    It is text or a number, not blank, and what counts of it (see :func:`is_right`) has at most 200
    characters: anything longer is a solution, which no answer repeats.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    return text if 0 < len(_reference(text).strip()) <= SHORT_CHARS else None


def is_right(answer: str, reference: str) -> bool:
    r"""Return whether ``answer`` agrees with ``reference``.

    Args:
        answer: The text a model wrote for the user, of any length.
        reference: The right answer, with or without a way to it: what follows GSM8K's ``####``
            counts, else its last ``\boxed{}``, else all of it. An empty one is never met.
    """
    wanted = _clean(_reference(reference))
    if not wanted:
        return False
    boxed = _last_boxed(answer)
    number = _value(wanted)
    if boxed is not None:
        return any(_same(_clean(said), wanted, number) for said in _ends(boxed, wanted))
    if number is not None:
        return _last_value(_clean(answer)) == number
    lines = answer.strip().splitlines()
    return bool(lines) and any(
        _same(_clean(said), wanted, None) for said in _ends(lines[-1], wanted)
    )


def _reference(text: str) -> str:
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


def _ends(line: str, wanted: str) -> Iterator[str]:
    """Yield the line, and what stands behind each place where an answer may begin."""
    line = line[-(4 * len(wanted) + 200) :]  # no more is ever equal to it
    yield line
    for match in _LEAD_IN.finditer(line):
        yield line[match.end() :]


def _same(said: str, wanted: str, number: Fraction | None) -> bool:
    return said == wanted or (number is not None and _value(said) == number)


def _clean(text: str) -> str:
    text = text.replace("{,}", ",").replace("−", "-").replace("…", " ").replace("...", " ")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = _NOISE.sub("", _WRAPPER.sub(r"\1", text))
    text = " ".join(text.split()).lstrip(_QUOTES).rstrip(_QUOTES + ".,;!")
    text = re.sub(r"^\(\s?([A-Za-z])\s?\)$", r"\1", text)  # a choice: "(B)" is "B"
    # "( 1, 2 )" and "(1,2)" are one answer; "1 2" and "12" are two.
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
    found = match.groupdict()
    over, under = found["over"] or found["o"], found["under"] or found["u"]
    if over is None:
        over, under = found["top"], found["bottom"] or "1"
    try:
        value = Fraction(over.replace(",", "")) / Fraction((under or "1").replace(",", ""))
    except (ValueError, ZeroDivisionError):  # thousands of digits, or no number at all
        return None
    return -value if (found["sign"] or "").startswith("-") else value
