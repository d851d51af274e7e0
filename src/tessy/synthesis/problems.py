"""Questions as a run asks them: fit for its strategy, and with the system prompt before them."""

from __future__ import annotations

from functools import partial

from tessy.config.synthesis import RunOptions, SynthesisOptions
from tessy.core.errors import InputError
from tessy.core.records import Message, Problem
from tessy.storage.problems import LoadedProblems, UnusableProblem, load_problems
from tessy.synthesis.strategies.registry import strategy_of


def load_questions(config: RunOptions, *, skip_bad_rows: bool | None = None) -> LoadedProblems:
    """Read the questions; those a run of these options cannot use are bad rows.

    Args:
        config: The run's options.
        skip_bad_rows: In place of the option of that name.

    Raises:
        InputError: As :func:`tessy.storage.problems.load_problems` does.
    """
    return load_problems(
        config.problems,
        fields=config.fields,
        skip_bad_rows=config.skip_bad_rows if skip_bad_rows is None else skip_bad_rows,
        check=partial(misfit, config),
    )


def misfit(config: RunOptions, problem: Problem) -> UnusableProblem | None:
    """Why a run of these options cannot use this question; None: it can."""
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


def as_asked(config: RunOptions, problem: Problem) -> Problem:
    """The question with the run's system prompt.

    Raises:
        InputError: The run cannot use it.
    """
    fault = misfit(config, problem)
    if fault is not None:
        raise InputError(f"question {problem.id!r}: {fault.field}: {fault.message}")
    if not isinstance(config, SynthesisOptions) or config.system_prompt is None:
        return problem
    system = Message(role="system", content=config.system_prompt)
    return problem.model_copy(update={"messages": (system, *problem.messages)})
