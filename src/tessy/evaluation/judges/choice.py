r"""``choice``: the final answer is the letter, or the text, of the correct choice.

The reference is the letter of the correct choice, its text, or (as a whole number) its index from
0. A last line ``ANSWER: B`` decides, else the last ``answer: B`` in the text unless a ``\boxed``
follows, else :mod:`tessy.answers.agreement`, and else the single letter that the box or the last
line names as in ``Option B is correct``. In a text that names no single choice, no answer is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tessy.answers.agreement import FinalAnswer, find_final_answer
from tessy.answers.final_answer import without_thoughts
from tessy.evaluation.judges.base import Judge, Verdict

LETTERS = "ABCDEFGHIJ"
_NAMES = ("choices", "options")
_LETTER = re.compile(r"\(?([A-Ja-j])\)?[.:]?")

_LINE = re.compile(r"ANSWER: ?([A-J])")
# "**Answer:** (B)", "answer: $\\boxed{B}$", but not "answer: A or B" and "answer: Amines".
_STATED = re.compile(
    r"\banswer\b[\s*_]*:[\s*_$(\[]*(?:\\(?:boxed|text|mathrm|mathbf|textbf)\s?\{[({]?)*"
    r"(?:(?:option|choice)\b[\s*_(]*)?"
    r"([A-J])(?![\w'’])(?!\s*(?:,|/|\bor\b|\band\b|&)\s*\(?[A-J]\b)",
    re.IGNORECASE,
)

# What confirms a letter: "B is correct", "B is the right answer".
_CONFIRMED = r"\s+is\s+(?:therefore\s+)?(?:the\s+)?(?:correct|right|best|answer)\b"
_NAMED = re.compile(
    # "option A", "the choice is A", "(A)" or "**A**", at the end, before a reason, or confirmed
    r"(?:\b(?i:answer|choice|option|choose|select|pick)(?:\s+is)?\b:?[\s*_$({\[]*"
    r"|\*\*\(?|(?<!\w)\()"
    r"(?P<letter>[A-J])(?!\w)[*_$)}\].!]*"
    rf"(?:\s*$|,?\s+(?:because|since|as|due\s+to)\b|{_CONFIRMED})"
    # "Therefore A is correct"
    rf"|(?<!\w)(?P<confirmed>[A-J]){_CONFIRMED}"
)
# A capital letter that is a word is the article "A" or the pronoun "I".
_MENTIONED = re.compile(
    r"(?<![\w'’])(?![AI]\s+(?!(?:is|or|and|as|because|since)\b)[a-z])([A-J])(?![\w'’])"
)
_DOUBT = re.compile(
    r"\b(?:not|no|none|neither|nor|never|cannot|incorrect|wrong|false|if|whether|unless|except|but"
    r"|without|against|unlike|contra\w*|exclud\w*|eliminat\w*|reject\w*|rul(?:e|es|ed|ing)\s+out)\b"
    r"|n['’]t\b|\?",
    re.IGNORECASE,
)


def choices_of(problem: Mapping[str, Any]) -> Sequence[str]:
    """Return the texts of a problem's choices in the order of their letters; empty without any."""
    for name in _NAMES:
        value = problem.get(name)
        if isinstance(value, Mapping):  # {"label": ["A", "B"], "text": [...]}, or by letter
            value = value.get("text") or [value[letter] for letter in LETTERS if letter in value]
        if isinstance(value, list) and 1 < len(value) <= len(LETTERS):
            return [str(text).strip() for text in value]
    return ()


def _reference(problem: Mapping[str, Any]) -> str | None:
    choices = choices_of(problem)
    for name in ("reference", "answer", "label"):
        value = problem.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
            return LETTERS[value]
        if not isinstance(value, str):
            continue
        if choices.count(value.strip()) == 1:
            return LETTERS[choices.index(value.strip())]
        letter = _LETTER.fullmatch(value.strip())
        if letter and (not choices or LETTERS.index(letter[1].upper()) < len(choices)):
            return letter[1].upper()
    return None


def _decide(answer: str, reference: str, problem: Mapping[str, Any]) -> Verdict | None:
    choices = choices_of(problem)
    answer = without_thoughts(answer)
    letters = LETTERS[: len(choices) or len(LETTERS)]
    stated = _stated_letter(answer, len(letters))
    if stated is not None:
        letter, rule = stated
        return Verdict(letter == reference, letter, rule)
    final = _final_answer(answer, reference, choices)
    if final is None:
        return None
    others = letters.replace(reference, "")
    if not final.correct and not any(_names(answer, letter, choices) for letter in others):
        named = _named_letter(final.text, letters)
        return None if named is None else Verdict(named == reference, named, "named choice")
    return Verdict(final.correct, final.text, final.rule)


def _final_answer(answer: str, letter: str, choices: Sequence[str]) -> FinalAnswer | None:
    """Return the final answer of a text, judged by a letter or the text of its choice."""
    final = find_final_answer(answer, letter)
    if choices and (final is None or not final.correct):
        by_text = find_final_answer(answer, f"({letter}) {choices[LETTERS.index(letter)]}")
        final = by_text if by_text and by_text.correct else final
    return final


def _names(answer: str, letter: str, choices: Sequence[str]) -> bool:
    """Return whether the final answer of a text is this choice."""
    final = _final_answer(answer, letter, choices)
    return final is not None and final.correct


def _named_letter(text: str, letters: str) -> str | None:
    """Return the only choice that a box or a last line names; None without a single one."""
    mentioned = set(_MENTIONED.findall(text))
    if len(mentioned) != 1 or _DOUBT.search(text):
        return None
    named = {match["letter"] or match["confirmed"] for match in _NAMED.finditer(text)}
    letter = mentioned.pop()
    return letter if named == {letter} and letter in letters else None


def _stated_letter(answer: str, count: int) -> tuple[str, str] | None:
    """Return the letter that a text names as its answer, and where; None without one."""
    lines = answer.strip().splitlines()
    line = _LINE.fullmatch(lines[-1].strip()) if lines else None
    if line and line[1] in LETTERS[:count]:
        return line[1], "answer line"
    last = None
    for match in _STATED.finditer(answer):
        if match[1].upper() in LETTERS[:count]:
            last = match
    if last is None or "\\boxed" in answer[last.end() :]:
        return None
    return last[1].upper(), "stated answer"


JUDGE = Judge(
    name="choice",
    version="3",
    needs="the letter, the text or the index of one of the `choices` in `reference` or `answer`",
    reference=_reference,
    decide=_decide,
)
