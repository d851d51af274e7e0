r"""``olympiad``: the final answer has the value of the reference, as OlympiadBench compares them.

Unlike ``maths``, a list of several answers is compared item by item in any order, the name before
``=`` or ``\in`` may be missing on one side, numbers may differ by the tolerance in the field
``error`` (one for all items, or one for each), and units are part of an answer.
"""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tessy.answers.agreement import find_final_answer
from tessy.answers.final_answer import boxed_in_last_line, last_boxed, normalize
from tessy.answers.maths import same_formula
from tessy.evaluation.judges.base import Judge, Verdict

_FIELDS = ("reference", "final_answer", "answer")
_EXACT = 1e-8  # tolerance of a problem without one, as in the data set's own judge
_SLACK = 1.01  # of a tolerance, as in the data set's own judge
_MAX_CHARS = 400  # of an answer that is compared as a formula
_MAX_ITEMS = 16
_AROUND = " $.;"
# A name such as "x", "f(n)", "\\vec{v}_{\\text{max}}", "\\frac{dy}{dx}" or "(x, y)".
_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_ACCENTED = rf"\\(?:vec|hat|bar|dot|ddot|tilde|overline|math\w+|text|operatorname)\s*{_GROUP}"
_NAME = (
    rf"(?:{_ACCENTED}|\\?[a-zA-Z]+)'*(?:\s*_\s*(?:{_GROUP}|\\?\w))?"
    r"(?:\s*\^\s*(?:\\prime|\{\\prime\}|\*|\{\*\}))?(?:\s*\([a-zA-Z, ]+\))?"
)
_NAMED = re.compile(
    rf"\s*(?:\([a-zA-Z, ]+\)|\|{_NAME}\||\\frac\s*\{{d\w*\}}\s*\{{d\w+\}}|{_NAME})"
    r"\s*(?:=|\\in(?![a-z]))(?P<value>.+)",
    re.DOTALL,
)
_SIDES = re.compile(r"[=<>≤≥]|\\(?:leq?|geq?|in)(?![a-z])")
_DECIMAL = re.compile(r"\d*\.\d")
_OPEN, _CLOSED = "([{", ")]}"


def _reference(problem: Mapping[str, Any]) -> str | None:
    for name in _FIELDS:
        value = problem.get(name)
        if isinstance(value, list) and len(value) == 1:  # as OlympiadBench writes it
            value = value[0]
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value).strip() or None
    return None


def _decide(answer: str, reference: str, problem: Mapping[str, Any]) -> Verdict | None:
    boxed = last_boxed(answer)
    if boxed is None:
        final = find_final_answer(answer, reference)
        return final and Verdict(final.correct, final.text, final.rule)
    if not boxed.strip():
        return None
    boxes = boxed_in_last_line(answer)
    texts = [boxed.strip()] + ([", ".join(boxes)] if len(boxes) > 1 else [])
    tolerances = _tolerances(problem.get("error"))
    correct = any(agree(reference, text, tolerances) for text in texts)
    return Verdict(correct, texts[0], "boxed")


def agree(reference: str, answer: str, tolerances: tuple[float, ...] = ()) -> bool:
    r"""Return whether an answer without ``\boxed`` agrees with a reference.

    Raises:
        UndecidedError: Math-Verify did not finish the comparison.
    """
    reference, answer = _bare(reference), _bare(answer)
    if normalize(reference) == normalize(answer):
        return True
    if len(answer) > _MAX_CHARS:
        return False
    expected, found = _items(reference), _items(answer)
    if 1 <= len(expected) == len(found) <= _MAX_ITEMS:
        each = tolerances if len(tolerances) == len(expected) else tolerances[:1] * len(expected)
        if _paired(expected, found, each):
            return True
    # Sets, "\pm" and other notations of lists.
    return same_formula(*_values(reference, answer))


def _paired(expected: list[str], found: list[str], tolerances: Sequence[float]) -> bool:
    """Return whether each expected item agrees with another found one (Kuhn's matching)."""
    partner: dict[int, int] = {}  # of a found item

    def match(item: int, tried: set[int]) -> bool:
        for other, text in enumerate(found):
            tolerance = tolerances[item] if tolerances else None
            if other in tried or not _same_item(expected[item], text, tolerance):
                continue
            tried.add(other)
            if other not in partner or match(partner[other], tried):
                partner[other] = item
                return True
        return False

    return all(match(item, set()) for item in range(len(expected)))


def _same_item(expected: str, found: str, tolerance: float | None) -> bool:
    expected, found = _values(expected, found)
    if normalize(expected) == normalize(found):
        return True
    if tolerance is None and _DECIMAL.search(f"{expected} {found}"):
        tolerance = _EXACT
    if tolerance is not None and same_formula(expected, found, tolerance * _SLACK):
        return True
    return same_formula(expected, found)


def _values(first: str, second: str) -> tuple[str, str]:
    """Return two texts without the name before one of them, if the other has none."""
    named = _NAMED.fullmatch(first), _NAMED.fullmatch(second)
    if named[0] and not _SIDES.search(second):
        return _value(named[0]), second
    if named[1] and not _SIDES.search(first):
        return first, _value(named[1])
    return first, second


def _value(match: re.Match[str]) -> str:
    return match["value"].strip(_AROUND)


def _bare(text: str) -> str:
    text = re.sub(r"\\(?:left|right)(?![a-z])", "", text.replace("$", " "))
    return text.strip(_AROUND + ",")


def _items(text: str) -> list[str]:
    """Return the parts of a text between commas outside of brackets."""
    items, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += (char in _OPEN) - (char in _CLOSED)
        if char == "," and depth <= 0:
            items.append(text[start:place])
            start = place + 1
    items.append(text[start:])
    return [item.strip() for item in items if item.strip()]


def _tolerances(error: object) -> tuple[float, ...]:
    """Return the tolerances of a problem; empty if it has none."""
    if isinstance(error, int | float) and not isinstance(error, bool):
        error = str(error)
    if not isinstance(error, str):
        return ()
    try:
        values = tuple(float(part) for part in error.split(","))
    except ValueError:
        return ()
    return values if all(math.isfinite(value) and value > 0 for value in values) else ()


JUDGE = Judge(
    name="olympiad",
    version=f"1 (math-verify {importlib.metadata.version('math-verify')})",
    needs="a final answer in `reference`, `final_answer` or `answer`",
    reference=_reference,
    decide=_decide,
)
