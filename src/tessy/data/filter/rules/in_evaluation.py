"""``in_evaluation``: the problem resembles a problem of an evaluation set."""

from __future__ import annotations

from collections.abc import Callable

from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError
from tessy.data.filter.evaluation_sets import EvaluationProblems, problem_text
from tessy.data.filter.rule import FilterRule, ReadPassed, RowCheck, TextCheck


def _prepare(options: FilterConfig) -> Callable[[ReadPassed], RowCheck]:
    known = EvaluationProblems.load(options.against, options.fields)
    return lambda read: TextCheck(lambda row: known.find(problem_text(row.messages)))


def _check_options(options: FilterConfig, applies: bool) -> None:
    if options.fields and not options.against:
        raise ConfigError("--fields: has no effect without --against")


RULE = FilterRule(
    name="in_evaluation",
    position=80,
    finds="the problem resembles one in the files of --against",
    prepare=_prepare,
    applies=lambda options: bool(options.against),
    check_options=_check_options,
)
