"""``near_duplicate``: the text is nearly that of an earlier row that passed."""

from __future__ import annotations

from collections.abc import Callable

from tessy.config.data import FilterConfig
from tessy.data.filter.duplicates import NearDuplicates, load_library
from tessy.data.filter.rule import FilterRule, ReadPassed, RowCheck


def _prepare(options: FilterConfig) -> Callable[[ReadPassed], RowCheck]:
    load_library()
    return NearDuplicates


RULE = FilterRule(
    name="near_duplicate",
    position=70,
    finds="the text is nearly that of an earlier row that passed",
    prepare=_prepare,
)
