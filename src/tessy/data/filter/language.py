"""Whether a text switches to another script than its problem's (pure; no model).

What is counted are words: one for each run of letters, and one for each character of a script
without spaces. Code and formulas are left out. Languages of one script, such as English and German,
are not told apart.
"""

from __future__ import annotations

from collections import Counter

import regex

from tessy.core.formatting import percent
from tessy.data.filter.fences import split_fences

FOREIGN_SHARE = 0.05  # a script the problem does not have
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
# Names of languages: such a problem may ask for another language than its own; "lowercase English
# letters" does not.
_NAMES = regex.compile(
    r"\b(?:english|chinese|mandarin|japanese|korean|russian|ukrainian|bulgarian|arabic|hebrew|"
    r"persian|hindi|urdu|thai)\b(?!\s+(?:alphabet|letter|word|character|upper|lower))|\btranslat\w+|"
    r"[英中汉俄日韩法德]文(?!字)|[英汉俄日韩法德]语|翻译|英訳|和訳|翻訳|"
    r"\b(?:английск|русск|китайск|перевед)\w*|영어|한국어|번역",
    regex.IGNORECASE,
)


def shares(text: str) -> tuple[dict[str, float], int]:
    """Return the share of each script among the words of ``text``, and how many words there are."""
    prose = _MATHS.sub(" ", split_fences(text).prose)
    if prose.isascii():
        count = len(_WORDS["Latin"].findall(prose))
        return ({"Latin": 1.0} if count else {}), count
    counts = Counter({name: len(word.findall(prose)) for name, word in _WORDS.items()})
    total = counts.total()
    return {name: count / total for name, count in counts.items() if count}, total


def language_switch(question: str, text: str) -> str | None:
    """Which script ``text`` has switched to, with the shares; None if it keeps to its problem's.

    A script that the problem does not have is a switch from 5 % of the words and 10 words on.
    Latin letters belong to any text of formulas and programs: they, and a script that the problem
    has to a share q, are a switch from halfway between q and all the words on. A problem that
    names a language, or asks for a translation, is not judged.
    """
    if text.isascii() and question.isascii():
        return None
    asked, known = shares(question)
    if not known or _NAMES.search(question):
        return None
    said, total = shares(text)
    for name, share in sorted(said.items(), key=lambda item: -item[1]):
        before = asked.get(name, 0.0)
        count = round(share * total)  # share * total alone may fall below the whole number
        if before or name == "Latin":
            limit = before + (1 - before) / 2
            switched = before < 0.5 and share >= limit and count >= FOREIGN_WORDS
        else:
            limit = FOREIGN_SHARE
            switched = share >= limit and count >= FOREIGN_WORDS
        if switched:
            found, of = percent(share, 0), percent(before, 0)
            return f"{found} of {total:,} words are {name}, of the problem's {of}"
    return None
