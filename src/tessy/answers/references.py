r"""Where the reference answer of a problem comes from (pure): one rule for every command.

The reference is the first of the row's fields ``reference``, ``answer``, ``final_answer`` and
``solution`` that contains one:

- of a text whose last line begins with GSM8K's ``####``, the rest of that line; else the content
  of its last ``\boxed{}``;
- a whole text, except of ``solution``, if it is short and looks like an answer: a number, a
  formula, a choice or a few words. A sentence is not a reference, because an answer in other words
  would not agree with it.

Text up to the last ``</think>`` is ignored. A whole number in ``answer`` beside a list ``choices``
or ``options`` is an index, not a reference.
A field with ``proof`` or ``notfound`` ends the search: the problem has no reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tessy.answers.final_answer import last_boxed, normalize, without_thoughts

SHORT_CHARS = 200
MAX_WORDS = 5
_FIELDS = ("reference", "answer", "final_answer", "solution")
_ONLY_MARKED = "solution"
_NO_ANSWER = {"proof", "notfound", "not found", "n/a", "na", "none", "null", "nan", "unknown"}
_GSM8K_LINE = re.compile(r"####(?!#)\s*(.+)")
_CHOICE_LISTS = ("choices", "options")
_WORD = re.compile(r"(?<!\\)\b[^\W\d_]{2,}")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")  # kana and Han: no spaces between words
_SENTENCE_BREAK = re.compile(r"[.!?:;]\s+\S|[。！？；：，]\s*\S")


def reference_of(row: Mapping[str, Any], field: str | None = None) -> str | None:
    """Return the final answer of a problem's reference; None if nothing can be compared with it.

    ``row`` has the problem's additional fields. ``field`` is the only one to read, None: as above.
    """
    for name in _FIELDS if field is None else (field,):
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            continue
        if name == "answer" and _is_index(value, row):
            continue
        text = without_thoughts(str(value))
        if text.strip().strip(".").casefold() in _NO_ANSWER:
            return None
        reference = marked_answer(text)
        if reference is None and (name != _ONLY_MARKED or field is not None):
            reference = text.strip() if looks_like_answer(text) else None
        if reference is not None:
            return reference
    return None


def marked_answer(text: str) -> str | None:
    r"""Return the last line after ``####``, or else the content of the last ``\boxed{}``."""
    lines = text.strip().splitlines()
    line = _GSM8K_LINE.fullmatch(lines[-1]) if lines else None
    marked = line[1].strip() if line else last_boxed(text)
    return marked if marked and 0 < len(normalize(marked)) <= SHORT_CHARS else None


def looks_like_answer(text: str) -> bool:
    """Return whether all of a text is a short final answer rather than a sentence."""
    text = text.strip()
    if "\n" in text or not 0 < len(normalize(text)) <= SHORT_CHARS:
        return False
    words = len(_WORD.findall(_CJK.sub(" ", text))) + (len(_CJK.findall(text)) + 1) // 2
    return words <= 1 or (
        words <= MAX_WORDS and not _SENTENCE_BREAK.search(text) and text[-1] not in ".!?。！？"
    )


def _is_index(value: str | float, row: Mapping[str, Any]) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and any(isinstance(row.get(name), list | tuple) for name in _CHOICE_LISTS)
