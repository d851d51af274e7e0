"""``empty_answer``: the answer has no content."""

from __future__ import annotations

import unicodedata

from tessy.core.formatting import counted
from tessy.data.filter.rule import text_rule


def empty(answer: str) -> str | None:
    """Return the fault if ``answer`` has no content (no letter, digit or symbol), or None."""
    # Punctuation (P*) and backticks are not content; symbols such as "=", "€" or "∅" may be.
    if any(unicodedata.category(char)[0] in "LNS" and char != "`" for char in answer):
        return None
    return f"no letter, digit or symbol among {counted(len(answer), 'character')}"


RULE = text_rule("empty_answer", 30, "the answer has no content", lambda row: empty(row.answer))
