"""The description of a strategy, and steps that several strategies share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tessy.config.synthesis import AnswerBy, SynthesisOptions
from tessy.core.records import Author, Message, Problem, Trajectory
from tessy.storage.problems import UnusableProblem
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.response_writer import ResponseWriter

_RULE_OPTIONS = frozenset({"cut", "lexicon"})  # of strategies with boundary predictors

MakeSample = Callable[[SampleAttempt], Awaitable[Trajectory]]
"""Makes a sample; raises :class:`~tessy.core.errors.SampleFailed` if it cannot be finished."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to make a sample, defined as ``STRATEGY`` by a module of this package.

    Attributes:
        name: Name on the command line and in rows.
        make: Makes a sample.
        models: The models that generate, and so need a server.
        thinking_by: Author of the thinking, for people: ``student``, ``teacher``, ``both`` …
        answer_by: Author of the answer that is kept; None where ``tessy sample`` chooses it.
        how: One or two sentences on how a sample is made.
        in_turns: Both models write one thinking, which boundary predictors cut into spans.
        reads_traces: Each problem has a trace, which a boundary predictor splits.
        candidates: Default of the option of that name.
        answers: Values of the option ``answer_by``; empty if the strategy does not take it.
        options: Options that only some strategies read, this one included; not those of a rule.
        check: The reason why a problem cannot be used with these options, or None.
    """

    name: str
    make: MakeSample
    models: Callable[[SynthesisOptions], tuple[Author, ...]]
    thinking_by: str
    answer_by: Author | None
    how: str
    in_turns: bool = False
    reads_traces: bool = False
    candidates: int = 1
    answers: tuple[AnswerBy, ...] = ()
    options: frozenset[str] = frozenset()
    check: Callable[[SynthesisOptions, Problem], UnusableProblem | None] = lambda *_: None

    @property
    def reads(self) -> frozenset[str]:
        """Options that only some strategies read, this one included; not those of a role."""
        splits = self.in_turns or self.reads_traces
        return self.options | (_RULE_OPTIONS if splits else frozenset())


def generated_by(*authors: Author) -> Callable[[SynthesisOptions], tuple[Author, ...]]:
    """Return a value for :attr:`Strategy.models` that does not depend on the options."""
    return lambda options: authors


def think_then_answer(author: Author | None, *, may_be_empty: bool = False) -> MakeSample:
    """Return a strategy where ``author`` alone writes the thinking; None: the answering model.

    ``may_be_empty`` accepts a response without thinking.
    """

    async def make(attempt: SampleAttempt) -> Trajectory:
        thinker = author or attempt.context.answering
        authors = tuple(dict.fromkeys((thinker, attempt.context.answering)))
        writer = ResponseWriter(attempt, attempt.problem.messages, authors)
        await writer.think(thinker, may_be_empty=may_be_empty)
        await writer.answer()
        return attempt.trajectory(thinker)

    return make


async def aside_by_teacher(
    attempt: SampleAttempt, messages: Sequence[Message], label: tuple[str | int, ...]
) -> str:
    """Return the teacher's answer to ``messages``, which the row does not keep."""
    writer = ResponseWriter(
        attempt, messages, ("teacher",), answering="teacher", label=label, aside=True
    )
    await writer.think("teacher")
    return await writer.answer()
