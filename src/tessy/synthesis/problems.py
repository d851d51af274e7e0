"""Problems of a run: checked for its strategy, with the system prompt added."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path

from tessy.config.base import RunOptions
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import InputError, RowFault, RunError
from tessy.core.records import Key, Message, Problem, problem_digest
from tessy.storage.jsonl import Line, dumps
from tessy.storage.problems import LoadedProblems, RowPlace, UnusableProblem, load_problems
from tessy.storage.traces import load_traces
from tessy.synthesis.strategies.registry import strategy_of
from tessy.tokenization.renderer import Renderer


def load_run_problems(config: RunOptions, *, skip_bad_rows: bool | None = None) -> LoadedProblems:
    """Load the problems; those that these options cannot use are bad rows.

    ``skip_bad_rows`` overrides the option of that name.
    """
    load = partial(load_problems, config.problems)
    if isinstance(config, SynthesisOptions):
        strategy_of(config)  # wrong options are reported before the file is read
        if config.traces is not None:
            load = partial(load_traces, config.traces)
    return load(
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


class ChangedProblems:
    """Finds rows of a run whose problem differs from the file's problem with the same id."""

    def __init__(self, loaded: LoadedProblems) -> None:
        self._problems = {problem.id: problem for problem in loaded.problems}
        self._places = dict(zip(self._problems, loaded.places, strict=False))  # there may be none
        self._changed: dict[str, None] = {}

    def look_at(self, key: Key, line: Line) -> None:
        """Compare the problem of an existing row."""
        problem = self._problems.get(key[0])
        if problem is None:  # the file has become shorter
            return
        if problem.trace is not None:
            digest = f'"trace": "{problem.trace.digest}"'.encode()
            if digest not in line.content:
                self._changed[key[0]] = None
                return
        turns = dumps([turn.model_dump() for turn in problem.messages])[:-1]
        ends = (b"]", b', {"role": "assistant"')  # of a failure, and of a row with a response
        from_user = problem.messages[-1].role == "user"
        if from_user and any(b'"messages": ' + turns + end in line.content for end in ends):
            return  # parsing a long row is slow
        try:
            messages = [Message(**turn) for turn in json.loads(line.content)["messages"]]
        except (ValueError, KeyError, TypeError):
            return  # readers of rows report it
        if problem_digest(messages) != problem_digest(problem.messages):
            self._changed[key[0]] = None

    def refuse(self, run: Path) -> None:
        """Raise RunError if there are such rows, with the ids."""
        if not self._changed:
            return
        ids = list(self._changed)
        shown = ", ".join(map(self._name, ids[:10]))
        more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
        raise RunError(
            f"{run} has rows of other problems under the ids {shown}{more}; give a changed problem "
            "another id, restore it, choose another --out, or start over with --fresh"
        )

    def _name(self, problem_id: str) -> str:
        place = self._places.get(problem_id)
        return f"{problem_id!r} ({place})" if place else repr(problem_id)


def prompt_faults(loaded: LoadedProblems, renderers: Collection[Renderer]) -> list[RowFault]:
    """Return a fault for each problem with a text that one of the models would not see."""
    faults = []
    for index, problem in enumerate(loaded.problems):
        try:
            for renderer in renderers:
                renderer.check_prompt(problem.messages)
        except InputError as error:
            place = loaded.places[index] if loaded.places else RowPlace("problem", index + 1)
            faults.append(RowFault(*place, "messages", str(error)))
    return faults


def with_system_prompt(config: RunOptions, problem: Problem) -> Problem:
    """Return the problem with the run's system prompt; InputError if the run cannot use it."""
    fault = _unusable(config, problem)
    if fault is not None:
        raise InputError(f"problem {problem.id!r}: {fault.field}: {fault.message}")
    if not isinstance(config, SynthesisOptions) or config.system_prompt is None:
        return problem
    system = Message(role="system", content=config.system_prompt)
    return problem.model_copy(update={"messages": (system, *problem.messages)})
