"""``truncated``: the answer ends midway."""

from __future__ import annotations

from tessy.data.filter import texts
from tessy.data.filter.rule import text_rule

# A finished thinking has its end marker, so only the answer is checked.
RULE = text_rule("truncated", 10, "the answer ends midway", lambda row: texts.truncated(row.answer))
