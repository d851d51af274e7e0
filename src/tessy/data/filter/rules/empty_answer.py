"""``empty_answer``: the answer has no content."""

from __future__ import annotations

from tessy.data.filter import texts
from tessy.data.filter.rule import text_rule

RULE = text_rule(
    "empty_answer", 30, "the answer has no content", lambda row: texts.empty(row.answer)
)
