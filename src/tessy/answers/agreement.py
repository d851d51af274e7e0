r"""Agreement of answers with references.

For problems whose answer is a number, a formula, a choice or a few words. The final answer of a
text is the content of its last ``\boxed{}``. Without one, it is the last number if the reference is
a number, unless that is part of a formula, a list or a range; otherwise the last line, or its end
after ``is``, ``are``, ``:`` or ``=``. Text up to the last ``</think>`` is ignored.

Texts agree if they are equal without letter case, markup and white space; numbers by exact value,
with or without a common unit; a choice with or without its text. Texts that these rules leave
undecided and that may be formulas are compared by Math-Verify (:mod:`tessy.answers.maths`).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

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
    without_thoughts,
)
from tessy.answers.forms import differ_in_form
from tessy.answers.maths import UndecidedError, same_formula

# "b) 12", "(b)12", "b. 12", "b: 12"; normalized.
_CHOICE = re.compile(
    r"(?:\((?P<in>[a-j])\)|(?P<before>[a-j])[).:])(?![a-z]$|\()(?P<text>.*)", re.DOTALL
)
# "is wrong", "isn't the right answer", "cannot be correct", "does not hold"; after a label.
_JUDGED = re.compile(
    r"(?:is|was|(?:must|would) be|can(?= ?not|['’]t))(?P<not> ?not\b|n?['’]t\b)?(?: be)?"
    r"(?: (?:the|also|\w+ly))* (?P<word>right|correct|true|wrong|incorrect|false)\b"
)
_RULED_OUT = re.compile(r"(?:does(?: not|n['’]t) (?:hold|work|fit)|(?:is|can be) ruled out)\b")
_POSITIVE = ("right", "correct", "true")
_LABEL = re.compile(r"\([a-j]\)|(?<!\w)[a-j][).:]")
_NAMED = re.compile(r"[a-z]\w*(?:\(\w+\))?=")
_UNIT_WORD = (
    r"(?:cm|mm|m|km|in|inch(?:es)?|ft|feet|kg|g|s|seconds?|h|min|minutes?|hours?|days?|dollars?|cents?"
    r"|degrees?|c)"
)
_UNITS = re.compile(
    rf"(?:(?:square|cubic) )?{_UNIT_WORD}(?:(?:/| per ){_UNIT_WORD})?(?:\^?\{{?[23²³]\}}?)?"
)
_FACTOR = re.compile(r"(?:hundred|thousand|million|billion|trillion|dozen|or|is|not|[xn])\b.*")
_FORMULA_CHARS = 400  # maximum length of a normalized final answer
_AROUND = " $.,;"
_COMMAND = re.compile(r"\\[a-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_MATHS = re.compile(r"[\d\\^_+*/=<>|(\[{]")


AnswerRule = Literal["boxed", "number", "last line"]


class FinalAnswer(NamedTuple):
    """The final answer that a text was judged by."""

    text: str
    rule: AnswerRule  # where it was found
    correct: bool


def is_correct(answer: str, reference: str) -> bool:
    """Return whether an answer of any length agrees with ``reference``. Blocks for up to 30 s.

    The reference is a final answer (:func:`tessy.answers.references.reference_of`), not empty. A
    comparison that cannot be decided is no agreement.
    """
    try:
        final = find_final_answer(answer, reference)
    except UndecidedError:
        return False
    return final is not None and final.correct


def find_final_answer(answer: str, reference: str) -> FinalAnswer | None:
    """Return the final answer in a text, judged as by :func:`is_correct`; None without one.

    Raises:
        UndecidedError: Math-Verify did not finish the comparison.
    """
    expected = normalize(reference)
    answer = without_thoughts(answer)
    boxed = last_boxed(answer)
    if boxed is not None:
        if not boxed.strip():
            return None
        boxes = boxed_in_last_line(answer)
        correct = bool(expected) and _agrees(boxed, reference, boxed=True)
        if expected and not correct and _same_list(boxes, expected):
            return FinalAnswer(", ".join(boxes), "boxed", correct=True)
        return FinalAnswer(boxed.strip(), "boxed", correct)
    quantity, unit = split_unit(expected)
    number = value_of(quantity)
    if number is not None:
        text = without_markup(answer)
        stated = stated_value(text)
        value = last_value(text) if stated is None else stated
        if value is None:
            return None
        units = re.findall(rf"\d\s?({_UNITS.pattern})(?!\w)", text)
        correct = number == value and (not unit or not units or unit in units)
        return FinalAnswer(str(value), "number", correct)
    lines = answer.strip().splitlines()
    if not lines:
        return None
    correct = bool(expected) and _agrees(lines[-1], reference, boxed=False)
    return FinalAnswer(lines[-1].strip(), "last line", correct)


def _agrees(line: str, reference: str, *, boxed: bool) -> bool:
    expected = normalize(reference)
    max_chars = 4 * len(reference) + 200  # a longer text never agrees
    texts = list(
        candidates(line, max_chars, boxed=boxed, letter=re.fullmatch("[a-z]", expected) is not None)
    )
    whole = normalize(line)
    if _CHOICE.fullmatch(whole) or (_NAMED.match(whole) and _NAMED.match(expected)):
        del texts[1:]  # "C: 12" is not "12", and "y = 5" not "x = 5"
    decided = [
        False
        if _differ_in_money(text, reference)
        else _same_percentage(text, reference) or _same(normalize(text), expected)
        for text in texts
    ]
    if True in decided:
        return True
    # The shortest candidate, without the lead-in of "x = 5" or "the set is {1, 2}".
    return decided[-1] is None and same_formula(reference.strip(_AROUND), texts[-1].strip(_AROUND))


def _same_list(boxes: list[str], expected: str) -> bool:
    r"""Return whether "\boxed{1} and \boxed{2}" is the list "1, 2"; numbers in any order."""
    if len(boxes) < 2:
        return False
    if normalize(", ".join(boxes)) == expected:
        return True
    values = [value_of(normalize(box)) for box in boxes]
    wanted = [value_of(part) for part in expected.split(",")]
    numbers = [value for value in values if value is not None]
    others = [value for value in wanted if value is not None]
    whole = len(numbers) == len(values) == len(wanted) == len(others)
    return whole and sorted(numbers) == sorted(others)


def _same(text: str, expected: str) -> bool | None:
    """Return whether two normalized answers agree; None if they may be formulas."""
    if text == expected:
        return True
    (number, unit), (wanted, wanted_unit) = split_unit(text), split_unit(expected)
    value, wanted_value = value_of(number), value_of(wanted)
    if value is not None and wanted_value is not None:
        # A unit may be missing, but that of the answer must be a known one: "5 million".
        return value == wanted_value and (
            unit == wanted_unit
            or (not wanted_unit and _UNITS.fullmatch(unit) is not None)
            or (not unit and _FACTOR.fullmatch(wanted_unit) is None)
        )
    if len(_LABEL.findall(text)) > 1 or len(_LABEL.findall(expected)) > 1:
        return False
    choice = _same_choice(text, expected)
    if choice is not None:
        return choice
    if not (_may_be_formula(text) and _may_be_formula(expected)):
        return False
    return False if differ_in_form(text, expected) else None


def _same_percentage(text: str, reference: str) -> bool:
    """Return whether one of two numbers is the other one in percent: ``0.5`` and ``50%``."""
    value, wanted = value_of(normalize(text)), value_of(normalize(reference))
    in_percent = "%" in text, "%" in reference
    if value is None or wanted is None or all(in_percent) or not any(in_percent):
        return False
    return value == 100 * wanted if in_percent[0] else 100 * value == wanted


def _differ_in_money(text: str, reference: str) -> bool:
    """Return whether one text is in cents, the other one in dollars: "5 cents" and "$5"."""
    in_cents = "cent" in text.casefold(), "cent" in reference.casefold()
    dollars = reference if in_cents[0] else text
    return any(in_cents) and not all(in_cents) and ("\\$" in dollars or dollars.count("$") == 1)


def _same_choice(text: str, expected: str) -> bool | None:
    """Return whether two choices such as "(b)12", "b" and "12" agree; None if none has a label."""
    first, second = _CHOICE.fullmatch(text), _CHOICE.fullmatch(expected)
    if first and _is_rejected(first["text"].strip()):
        return False
    if first and second:
        texts = first["text"].strip(), second["text"].strip()
        return _letter(first) == _letter(second) and (not all(texts) or _same(*texts) is True)
    labelled, other = (first, expected) if first else (second, text)
    if labelled is None:
        return None
    own = labelled["text"].strip()
    return other == _letter(labelled) or (bool(own) and _same(other, own) is True)


def _is_rejected(text: str) -> bool:
    """Return whether a text after the label of a choice states that it is wrong."""
    judged = _JUDGED.match(text)
    if judged is None:
        return _RULED_OUT.match(text) is not None
    return (judged["word"] in _POSITIVE) == bool(judged["not"])


def _letter(choice: re.Match[str]) -> str:
    return choice["in"] or choice["before"]


def _may_be_formula(text: str) -> bool:
    # Math-Verify reads a word as a product of letters, so anagrams would agree.
    words = _WORD.search(_COMMAND.sub(" ", text))
    return len(text) <= _FORMULA_CHARS and words is None and bool(_MATHS.search(text))
