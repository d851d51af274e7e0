"""Interface of the rules of ``tessy filter``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tessy.config.data import FilterConfig
from tessy.core.records import Message, Trajectory


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A rule with its data, applied to the rows of one run in order.

    ``remember`` is called with each row that passed all rules, and a function that reads it again;
    ``details`` returns additional counts for summary.json.
    """

    find: Callable[[Trajectory], str | None]  # returns the reason to reject a row
    remember: Callable[[Trajectory, Callable[[], Trajectory]], None] = lambda row, read: None
    details: Callable[[], Mapping[str, int]] = dict


@dataclass(frozen=True, slots=True)
class FilterRule:
    """A rule; each module of the package ``rules`` defines one as ``RULE``.

    Attributes:
        name: Name on the command line, in quarantine.jsonl and in summary.json.
        position: Sort key of the rules; reasons are listed in this order.
        finds: Description of rejected rows, for the final table.
        prepare: Returns the check with its data, before anything is written. Raises InputError.
        applies: Returns whether the options enable the rule.
        check_options: Called with the options and whether the rule applies; raises ConfigError.
        note: Returns text to append to ``finds``, from the options and the check's details.
    """

    name: str
    position: int
    finds: str
    prepare: Callable[[FilterConfig], RowCheck]
    applies: Callable[[FilterConfig], bool] = lambda options: True
    check_options: Callable[[FilterConfig, bool], None] = lambda options, applies: None
    note: Callable[[FilterConfig, Mapping[str, int]], str] = lambda options, details: ""


def text_rule(
    name: str, position: int, finds: str, find: Callable[[Trajectory], str | None]
) -> FilterRule:
    """Return a rule without options that checks each row on its own."""
    return FilterRule(name, position, finds, lambda options: RowCheck(find))


def parts(row: Trajectory) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the names and texts of thinking and answer."""
    return ("thinking", row.thinking), ("answer", row.answer)


def find_in_parts(row: Trajectory, find: Callable[[str, str], str | None]) -> str | None:
    """Return the first result of ``find``, called with the problem and each part, and its part."""
    problem = problem_text(row.messages)
    results = ((part, find(problem, text)) for part, text in parts(row))
    return next((f"in the {part}: {result}" for part, result in results if result), None)


def problem_text(messages: Sequence[Message]) -> str:
    """Return the user turns of a conversation, separated by empty lines."""
    return "\n\n".join(turn.content for turn in messages if turn.role == "user")
