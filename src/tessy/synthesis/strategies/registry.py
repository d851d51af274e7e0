"""All strategies by name: every module of this package that defines ``STRATEGY``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tessy.boundary.load import is_checkpoint
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
        ConfigError: There is no such strategy, or an option does not fit it.
    """
    if options.strategy not in selectable():
        raise ConfigError(
            f"--strategy: expected one of {', '.join(selectable())}; got {options.strategy!r}"
        )
    strategy = all_strategies()[options.strategy]
    _check_input(options, strategy)
    if options.answer_by is not None and not strategy.answers:
        raise ConfigError(
            f"--answer-by: in strategy {strategy.name} the {strategy.answer_by} always writes the "
            "answer; leave this option out"
        )
    if options.answer_by is not None and options.answer_by not in strategy.answers:
        raise ConfigError(
            f"--answer-by: strategy {strategy.name} takes {' or '.join(strategy.answers)}; got "
            f"{options.answer_by}"
        )
    if options.candidates == 1 and strategy.name == "teacher-score":
        raise ConfigError("--candidates: strategy teacher-score needs at least 2, got 1")
    if "teacher" in strategy.models(options) and not options.teacher.model:
        raise ConfigError(
            f"--teacher.model: is required by strategy {strategy.name} and missing; give it, "
            "or a TOML file (--config) with it"
        )
    return strategy


def unread_options(options: SynthesisOptions) -> list[str]:
    """Return a warning for each option that is set but not read by the strategy.

    It is no error, so that one TOML file can serve several strategies. For the same reason there is
    no warning for options of a role, such as the predictors of a file for every strategy.
    """
    strategy = strategy_of(options)
    readers: dict[str, list[str]] = {}
    for other in all_strategies().values():
        for name in other.reads - strategy.reads:
            readers.setdefault(name, []).append(other.name)
    return [
        f"strategy {strategy.name} does not read --{name.replace('_', '-')}, which is an option of "
        f"{' and '.join(readers[name])}"
        for name in sorted(readers)
        if getattr(options, name) != type(options).model_fields[name].default
    ]


def _check_input(options: SynthesisOptions, strategy: Strategy) -> None:
    if strategy.reads_traces and options.problems:
        raise ConfigError(
            f"--problems: strategy {strategy.name} takes its problems from --traces; leave this "
            "option out"
        )
    if strategy.reads_traces and options.traces is None:
        raise ConfigError(
            f"--traces: is required by strategy {strategy.name}; give a run directory, or a file "
            "of responses with their thinking"
        )
    rule = options.student.predictor
    if strategy.reads_traces and is_checkpoint(rule) and not options.allow_classifier:
        raise ConfigError(
            f"--student.predictor: {rule} classifies the next token, not written text: it would "
            "delete capability from most traces; choose `lexicon` or `module:callable`, annotate "
            "the traces (style_spans), or pass --allow-classifier"
        )
    if not strategy.reads_traces and options.traces is not None:
        raise ConfigError(
            f"--traces: strategy {strategy.name} does not read traces; leave the option out, or "
            "choose --strategy restyle"
        )
    if not strategy.reads_traces and not options.problems:
        raise ConfigError(
            "--problems: is required and missing; give it, or a TOML file (--config) with it"
        )


def generating_models(options: SynthesisOptions) -> tuple[Author, ...]:
    """Return the models that generate: those that need a server, or weights in this process."""
    return strategy_of(options).models(options)


def answering_model(options: SynthesisOptions) -> Author:
    """Return the author of the answer that is kept; of a trace's answer, the student."""
    strategy = strategy_of(options)
    author = strategy.answer_by if options.answer_by in (None, "trace") else options.answer_by
    assert author is not None  # the option takes no strategy without one
    assert author != "trace"
    return author


def candidates(options: SynthesisOptions) -> int:
    """Return the number of candidates: the option, or else the strategy's default."""
    return options.candidates or strategy_of(options).candidates
