"""``language``: thinking or answer switch to a script other than the problem's.

A sequence of letters is a word, and so is each character of a script without spaces. Code and
formulas are ignored. Languages with the same script are not distinguished.
"""

from __future__ import annotations

from collections import Counter

import regex

from tessy.core.formatting import percent
from tessy.data.filter.fences import split_fences
from tessy.data.filter.rule import find_in_parts, text_rule

FOREIGN_SHARE = 0.05  # of words in a script that the problem does not have
FOREIGN_WORDS = 10

_SCRIPTS = {
    "Latin": r"\p{Latin}+",
    "Chinese or Japanese": r"[\p{Han}\p{Hiragana}\p{Katakana}]",
    "Cyrillic": r"\p{Cyrillic}+",
    "Hangul": r"\p{Hangul}+",
    "Arabic": r"\p{Arabic}+",
    "Hebrew": r"\p{Hebrew}+",
    "Devanagari": r"[\p{Devanagari}]+",
    "Thai": r"\p{Thai}{1,5}",
}
_WORDS = {name: regex.compile(pattern) for name, pattern in _SCRIPTS.items()}
_MATHS = regex.compile(
    r"`[^`\n]*`|\$\$(?s:.)*?\$\$|\$[^$\n]*\$|\\\[(?s:.)*?\\\]|\\\((?s:.)*?\\\)|\\[a-zA-Z]+|"
    r"https?://\S+"
)
# A problem with the name of a language may ask for another language; "lowercase English letters"
# does not.
_NAMES = regex.compile(
    r"\b(?:english|chinese|mandarin|japanese|korean|russian|ukrainian|bulgarian|arabic|hebrew|"
    r"persian|hindi|urdu|thai)\b(?!\s+(?:alphabet|letter|word|character|upper|lower))|\btranslat\w+|"
    r"[英中汉俄日韩法德]文(?!字)|[英汉俄日韩法德]语|翻译|英訳|和訳|翻訳|"
    r"\b(?:английск|русск|китайск|перевед)\w*|영어|한국어|번역",
    regex.IGNORECASE,
)


def shares(text: str) -> tuple[dict[str, float], int]:
    """Return the share of each script among the words of ``text``, and the number of words."""
    prose = _MATHS.sub(" ", split_fences(text).prose)
    if prose.isascii():
        count = len(_WORDS["Latin"].findall(prose))
        return ({"Latin": 1.0} if count else {}), count
    counts = Counter({name: len(word.findall(prose)) for name, word in _WORDS.items()})
    total = counts.total()
    return {name: count / total for name, count in counts.items() if count}, total


def language_switch(problem: str, text: str) -> str | None:
    """Return the script that ``text`` switches to, with the shares; None if it does not switch.

    A script that the problem does not use is a switch at 10 words or more that are at least 5 % of
    the words. Latin letters occur in any text with formulas or code: for Latin, and for any script
    with a share q of the problem, the limit is halfway between q and 100 %. A problem that names a
    language or asks for a translation is not checked.
    """
    if text.isascii() and problem.isascii():
        return None
    expected, known = shares(problem)
    if not known or _NAMES.search(problem):
        return None
    actual, total = shares(text)
    for name, share in sorted(actual.items(), key=lambda item: -item[1]):
        before = expected.get(name, 0.0)
        count = round(share * total)  # the product may be slightly below the integer
        limit = before + (1 - before) / 2 if before or name == "Latin" else FOREIGN_SHARE
        if before < 0.5 and share >= limit and count >= FOREIGN_WORDS:
            return (
                f"{percent(share, 0)} of {total:,} words are {name}; in the problem, "
                f"{percent(before, 0)} are"
            )
    return None


RULE = text_rule(
    "language",
    60,
    "thinking or answer switch to a script other than the problem's",
    lambda row: find_in_parts(row, language_switch),
)
