"""``truncated``: the answer is cut off."""

from __future__ import annotations

from tessy.data.filter import texts
from tessy.data.filter.rule import text_rule

# Finished thinking always has its end marker, so only the answer can be cut off.
RULE = text_rule("truncated", 10, "the answer is cut off", lambda row: texts.truncated(row.answer))
