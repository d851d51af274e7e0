"""``wrong_answer``: the answer does not match the row's reference."""

from __future__ import annotations

from tessy.answers.agreement import is_correct
from tessy.answers.references import reference_of
from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError
from tessy.core.formatting import counted
from tessy.core.records import Trajectory
from tessy.data.derived_run import source_rows
from tessy.data.filter.rule import FilterRule, RowCheck


class ReferenceCheck:
    """Compares answers with references; rows without a reference pass."""

    def __init__(self, field: str | None) -> None:
        self._field = field
        self.compared = 0

    def find(self, row: Trajectory) -> str | None:
        """Return the reference and the end of the answer if they differ."""
        reference = reference_of(row.problem, self._field)
        if reference is None:
            return None
        self.compared += 1
        if is_correct(row.answer, reference):
            return None
        expected, answer = (text.strip()[-80:] for text in (reference, row.answer))
        return f"the reference is {expected!r}, the answer ends {answer!r}"


def _prepare(options: FilterConfig) -> RowCheck:
    if options.reference is not None:
        _check_field(options)
    check = ReferenceCheck(options.reference)
    return RowCheck(check.find, details=lambda: {"judged": check.compared})


def _check_field(options: FilterConfig) -> None:
    """Raise ConfigError if no row has the field: a misspelled field would compare nothing."""
    fields: set[str] | None = None
    for _, row in source_rows(options.run):
        if options.reference in row.problem:
            return
        fields = (fields or set()) | row.problem.keys()
    if fields is None:
        return  # the command reports the empty run
    known = ", ".join(sorted(fields)[:20]) or "none"
    raise ConfigError(
        f"--reference {options.reference}: no row of {options.run} has this field; the fields of "
        f"its rows: {known}"
    )


RULE = FilterRule(
    name="wrong_answer",
    position=90,
    finds="the answer does not match the row's reference",
    prepare=_prepare,
    note=lambda options, details: (
        f" ({counted(details['judged'], 'reference')}"
        + (f" in the field {options.reference!r})" if options.reference else ")")
    ),
)
