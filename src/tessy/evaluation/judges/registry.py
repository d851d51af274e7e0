"""All judges by name: every module of this package that defines ``JUDGE``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tessy.core.registry import find_in_modules
from tessy.evaluation import judges
from tessy.evaluation.judges.base import Judge


@cache
def all_judges() -> Mapping[str, Judge]:
    """Return the judges by name."""
    found: list[Judge] = find_in_modules(judges, "JUDGE")
    return {judge.name: judge for judge in found}
