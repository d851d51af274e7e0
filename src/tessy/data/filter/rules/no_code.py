"""``no_code``: the problem asks for a program, and the answer has no code block."""

from __future__ import annotations

from collections.abc import Callable

from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError
from tessy.core.records import Trajectory
from tessy.data.filter import texts
from tessy.data.filter.evaluation_sets import problem_text
from tessy.data.filter.rule import FilterRule, ReadPassed, RowCheck, TextCheck


def _prepare(options: FilterConfig) -> Callable[[ReadPassed], RowCheck]:
    def find(row: Trajectory) -> str | None:
        problem = problem_text(row.messages)
        return texts.without_code(problem, row.answer, required=options.require_code)

    return lambda read: TextCheck(find)


def _check_options(options: FilterConfig, applies: bool) -> None:
    if options.require_code and not applies:
        raise ConfigError("--require-code: has no effect, because --skip contains no_code")


RULE = FilterRule(
    name="no_code",
    position=40,
    finds="the problem asks for a program (or --require-code is set), the answer has no code block",
    prepare=_prepare,
    check_options=_check_options,
)
