"""All strategies by name: every module of this package that defines ``STRATEGY``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import ConfigError
from tessy.core.records import Author
from tessy.core.registry import find_in_modules
from tessy.synthesis import strategies
from tessy.synthesis.strategies.base import Strategy


@cache
def all_strategies() -> Mapping[str, Strategy]:
    """Return the strategies by name, the paper's method first."""
    defined: list[Strategy] = find_in_modules(strategies, "STRATEGY")
    defined.sort(key=lambda strategy: (strategy.name != "tessy", strategy.name))
    return {strategy.name: strategy for strategy in defined}


def selectable() -> tuple[str, ...]:
    """Return the names that the option ``strategy`` takes."""
    return tuple(s.name for s in all_strategies().values() if s.answer_by is not None)


def strategy_of(options: SynthesisOptions) -> Strategy:
    """Return the strategy that ``options`` name.

    Raises:
        ConfigError: There is no such strategy, or the author of its answer cannot be chosen.
    """
    if options.strategy not in selectable():
        raise ConfigError(
            f"strategy: expected one of {', '.join(selectable())}; got {options.strategy!r}"
        )
    strategy = all_strategies()[options.strategy]
    if options.answer_by is not None and "answer_by" not in strategy.options:
        raise ConfigError(
            f"answer_by: in strategy {strategy.name} the {strategy.answer_by} always writes the "
            "answer; leave this option out"
        )
    return strategy


def generating_models(options: SynthesisOptions) -> tuple[Author, ...]:
    """Return the models that generate: those that need a server, or weights in this process."""
    return strategy_of(options).models(options)


def answering_model(options: SynthesisOptions) -> Author:
    """Return the author of the answer that is kept."""
    strategy = strategy_of(options)
    author = options.answer_by or strategy.answer_by
    assert author is not None  # the option takes no strategy without one
    return author
