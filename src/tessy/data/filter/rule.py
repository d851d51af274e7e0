"""Interface of the rules of ``tessy filter``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tessy.config.data import FilterConfig
from tessy.core.records import Trajectory

ReadPassed = Callable[[int], Trajectory]  # returns a row that passed, given its offset


class RowCheck(ABC):
    """A rule applied to the rows of one run, in order."""

    @abstractmethod
    def find(self, row: Trajectory) -> str | None:
        """Return the reason to reject ``row``, or None."""

    def remember(self, row: Trajectory, offset: int) -> None:  # noqa: B027  # most rules need none
        """Record a row that passed all rules, with its offset in the new run."""

    def details(self) -> Mapping[str, int]:
        """Return additional counts for summary.json."""
        return {}


class TextCheck(RowCheck):
    """A rule that checks each row on its own."""

    def __init__(self, find: Callable[[Trajectory], str | None]) -> None:
        self._find = find

    def find(self, row: Trajectory) -> str | None:
        """Return the reason to reject ``row``, or None."""
        return self._find(row)


def _always(options: FilterConfig) -> bool:
    return True


def _accept(options: FilterConfig, applies: bool) -> None:
    return None


def _no_note(options: FilterConfig, details: Mapping[str, int]) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class FilterRule:
    """A rule; each module of the package ``rules`` defines one as ``RULE``.

    Attributes:
        name: Name on the command line, in quarantine.jsonl and in summary.json.
        position: Sort key of the rules; reasons are listed in this order.
        finds: Description of rejected rows, for the final table.
        prepare: Loads the rule's data before anything is written, and returns a factory of the
            check. Raises InputError.
        applies: Returns whether the options enable the rule.
        check_options: Called with the options and whether the rule applies; raises ConfigError.
        note: Returns text to append to ``finds``, from the options and the check's details.
    """

    name: str
    position: int
    finds: str
    prepare: Callable[[FilterConfig], Callable[[ReadPassed], RowCheck]]
    applies: Callable[[FilterConfig], bool] = _always
    check_options: Callable[[FilterConfig, bool], None] = _accept
    note: Callable[[FilterConfig, Mapping[str, int]], str] = _no_note


def text_rule(
    name: str, position: int, finds: str, find: Callable[[Trajectory], str | None]
) -> FilterRule:
    """Return a rule without options that checks each row on its own."""
    return FilterRule(name, position, finds, lambda options: lambda read: TextCheck(find))


def parts(row: Trajectory) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the names and texts of thinking and answer."""
    return ("thinking", row.thinking), ("answer", row.answer)
