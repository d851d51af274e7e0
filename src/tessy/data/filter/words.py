"""Words and word n-grams, for comparing texts (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence

# In scripts without spaces (Han, Kana, Thai) each character is a word. Arithmetic operators are
# words, to distinguish "3 + 4" from "3 * 4"; other punctuation is ignored.
_NO_SPACES = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(rf"[^\W_{_NO_SPACES}]+|[{_NO_SPACES}]|[-+*/=<>^%×÷−]")


def words(text: str) -> list[str]:
    """Return the words of ``text``, case-folded, without punctuation."""
    return _WORD.findall(text.casefold())


def grams(text: Sequence[str], size: int) -> set[str]:
    """Return the n-grams of ``size`` words; a shorter text is a single n-gram."""
    if len(text) <= size:
        return {" ".join(text)} if text else set()
    return set(map(" ".join, zip(*(text[at:] for at in range(size)), strict=False)))
