"""The description of a strategy: how a sample is made, and by which models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tessy.config.synthesis import SynthesisOptions
from tessy.core.records import Author, Problem, Trajectory
from tessy.storage.problems import UnusableProblem
from tessy.synthesis.attempt import SampleAttempt

MakeSample = Callable[[SampleAttempt], Awaitable[Trajectory]]


def _any_problem(options: SynthesisOptions, problem: Problem) -> UnusableProblem | None:
    return None


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to make a sample; each module of this package that has one calls it ``STRATEGY``.

    Attributes:
        name: Name on the command line and in rows.
        make: Makes the sample. Raises :class:`~tessy.core.errors.SampleFailed` if it cannot be
            finished.
        models: The models that generate, and so need a server.
        thinking_by: Author of the thinking, for people: ``student``, ``teacher``, ``both`` …
        answer_by: Author of the answer that is kept; None where ``tessy sample`` chooses it.
        how: One or two sentences on how a sample is made.
        in_turns: Both models write one thinking, which boundary predictors cut into spans.
        options: Options that no other strategy reads.
        check: The reason why a problem cannot be used with these options, or None.
    """

    name: str
    make: MakeSample
    models: Callable[[SynthesisOptions], tuple[Author, ...]]
    thinking_by: str
    answer_by: Author | None
    how: str
    in_turns: bool = False
    options: frozenset[str] = frozenset()
    check: Callable[[SynthesisOptions, Problem], UnusableProblem | None] = _any_problem


def generated_by(*authors: Author) -> Callable[[SynthesisOptions], tuple[Author, ...]]:
    """Return a value for :attr:`Strategy.models` that does not depend on the options."""
    return lambda options: authors
