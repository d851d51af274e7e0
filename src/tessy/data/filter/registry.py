"""All rules of ``tessy filter``: every module of ``rules`` that defines ``RULE``.

To add a rule, add a module; no other code names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError
from tessy.core.registry import find_in_modules
from tessy.data.filter import rules
from tessy.data.filter.rule import FilterRule


@cache
def all_rules() -> Mapping[str, FilterRule]:
    """Return the rules by name, in order of position."""
    found: list[FilterRule] = find_in_modules(rules, "RULE")
    found.sort(key=lambda rule: rule.position)
    return {rule.name: rule for rule in found}


def chosen_rules(options: FilterConfig) -> Mapping[str, FilterRule]:
    """Return the rules to apply.

    Raises:
        ConfigError: ``skip`` names an unknown rule or leaves none, or another option conflicts
            with the rules.
    """
    known = all_rules()
    unknown = [name for name in options.skip if name not in known]
    if unknown:
        raise ConfigError(
            f"--skip: unknown rule {unknown[0]!r}; expected some of {', '.join(known)}"
        )
    chosen = {
        name: rule
        for name, rule in known.items()
        if name not in options.skip and rule.applies(options)
    }
    if not chosen:
        raise ConfigError("--skip: all rules are skipped; skip fewer")
    for name, rule in known.items():
        rule.check_options(options, name in chosen)
    return chosen
