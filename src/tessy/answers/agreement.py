r"""Agreement of answers with references.

For problems whose answer is a number, a formula, a choice or a few words. The final answer of a
text is the content of its last ``\boxed{}``. Without one, it is the last number if the reference is
a number; otherwise the last line, or its end after ``is``, ``are``, ``:`` or ``=``.

Texts agree if they are equal without letter case, markup and white space; numbers by exact value,
with or without a unit; a choice with or without its text. Texts that these rules leave undecided
and that may be formulas are compared by Math-Verify (:mod:`tessy.answers.maths`).
"""

from __future__ import annotations

import re

from tessy.answers.final_answer import (
    boxed_in_last_line,
    candidates,
    last_boxed,
    last_value,
    normalize,
    split_unit,
    stated_value,
    value_of,
    without_markup,
)
from tessy.answers.maths import same_formula

# "b) 12", "(b)12", "b. 12", "b: 12"; normalized.
_CHOICE = re.compile(r"(?:\((?P<in>[a-j])\)|(?P<before>[a-j])[).:])(?P<text>.*)", re.DOTALL)
_FORMULA_CHARS = 400  # maximum length of a normalized final answer
_AROUND = " $.,;"
_COMMAND = re.compile(r"\\[a-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_MATHS = re.compile(r"[\d\\^_+*/=<>|(\[{]")


def is_correct(answer: str, reference: str) -> bool:
    """Return whether an answer of any length agrees with ``reference``. Blocks for up to 30 s.

    The reference is a final answer (:func:`tessy.answers.references.reference_of`), not empty.
    """
    expected = normalize(reference)
    if not expected:
        return False
    boxed = last_boxed(answer)
    if boxed is not None:
        several = boxed_in_last_line(answer)  # "\boxed{1} and \boxed{2}" for "1, 2"
        joined = ", ".join(several) if len(several) > 1 else boxed
        return _agrees(boxed, reference) or normalize(joined) == expected
    number = value_of(split_unit(expected)[0])
    if number is not None:
        text = without_markup(answer)
        stated = stated_value(text)
        return number == (last_value(text) if stated is None else stated)
    lines = answer.strip().splitlines()
    return bool(lines) and _agrees(lines[-1], reference)


def _agrees(line: str, reference: str) -> bool:
    expected = normalize(reference)
    texts = list(candidates(line, 4 * len(reference) + 200))  # a longer text never agrees
    decided = [
        _same_percentage(text, reference) or _same(normalize(text), expected) for text in texts
    ]
    if True in decided:
        return True
    # The shortest candidate, without the lead-in of "x = 5" or "the set is {1, 2}".
    return decided[-1] is None and same_formula(reference.strip(_AROUND), texts[-1].strip(_AROUND))


def _same(text: str, expected: str) -> bool | None:
    """Return whether two normalized answers agree; None if they may be formulas."""
    if text == expected:
        return True
    (number, unit), (wanted, wanted_unit) = split_unit(text), split_unit(expected)
    value, wanted_value = value_of(number), value_of(wanted)
    if value is not None and wanted_value is not None:
        return value == wanted_value and (unit == wanted_unit or not unit or not wanted_unit)
    if _same_choice(text, expected) or _same_choice(expected, text):
        return True
    return None if _may_be_formula(text) and _may_be_formula(expected) else False


def _same_percentage(text: str, reference: str) -> bool:
    """Return whether one of two numbers is the other one in percent: ``0.5`` and ``50%``."""
    value, wanted = value_of(normalize(text)), value_of(normalize(reference))
    in_percent = "%" in text, "%" in reference
    if value is None or wanted is None or all(in_percent) or not any(in_percent):
        return False
    return value == 100 * wanted if in_percent[0] else 100 * value == wanted


def _same_choice(labelled: str, text: str) -> bool:
    """Return whether ``text`` is the letter or the text of a choice such as "(b)12"."""
    match = _CHOICE.fullmatch(labelled)
    if match is None:
        return False
    letter = match["in"] or match["before"]
    other = _CHOICE.fullmatch(text)
    if other is not None:
        return letter == (other["in"] or other["before"])
    return text == letter or (bool(match["text"]) and text == match["text"].strip())


def _may_be_formula(text: str) -> bool:
    # Math-Verify reads a word as a product of letters, so anagrams would agree.
    words = _WORD.search(_COMMAND.sub(" ", text))
    return len(text) <= _FORMULA_CHARS and words is None and bool(_MATHS.search(text))
