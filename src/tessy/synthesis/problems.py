"""Problems of a run: checked for its strategy, with the system prompt added."""

from __future__ import annotations

from functools import partial

from tessy.config.base import RunOptions
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import InputError
from tessy.core.records import Message, Problem
from tessy.storage.problems import LoadedProblems, UnusableProblem, load_problems
from tessy.synthesis.strategies.registry import strategy_of


def load_run_problems(config: RunOptions, *, skip_bad_rows: bool | None = None) -> LoadedProblems:
    """Load the problems; those that these options cannot use are bad rows.

    ``skip_bad_rows`` overrides the option of that name.
    """
    if isinstance(config, SynthesisOptions):
        strategy_of(config)  # a wrong name is reported before the file is read
    return load_problems(
        config.problems,
        split=config.split,
        fields=config.fields,
        skip_bad_rows=config.skip_bad_rows if skip_bad_rows is None else skip_bad_rows,
        check=partial(_unusable, config),
    )


def _unusable(config: RunOptions, problem: Problem) -> UnusableProblem | None:
    if not isinstance(config, SynthesisOptions):
        return None
    if config.system_prompt is not None:
        for turn in problem.messages:
            if turn.role == "system":
                shown = ascii(turn.content[:60])
                return UnusableProblem(
                    "messages", f"expected no system turn beside --system-prompt: {shown}"
                )
    return strategy_of(config).check(config, problem)


def with_system_prompt(config: RunOptions, problem: Problem) -> Problem:
    """Return the problem with the run's system prompt; InputError if the run cannot use it."""
    fault = _unusable(config, problem)
    if fault is not None:
        raise InputError(f"problem {problem.id!r}: {fault.field}: {fault.message}")
    if not isinstance(config, SynthesisOptions) or config.system_prompt is None:
        return problem
    system = Message(role="system", content=config.system_prompt)
    return problem.model_copy(update={"messages": (system, *problem.messages)})
