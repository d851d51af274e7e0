"""Three small tasks on digits, and traces: thinking about them in several styles.

``calc`` is the task to improve; ``max`` and ``rev`` show forgetting. A trace is a list of segments
of known author: phrases are style, the steps between them capability. A segment begins where a
hand-over is possible: before a single space or after a line break.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Literal, get_args

from tessy.lab.styles import Place, Style

Task = Literal["calc", "max", "rev"]
TASKS: tuple[Task, ...] = get_args(Task)
Kind = Literal["style", "capability"]

MODULUS = 10
HARD_FACTORS = frozenset({6, 7, 8, 9})  # factors that an unskilled writer gets wrong

_MOST_DIGITS = 6
_LONGEST_REVERSED = 5
_LEAD = 0.75  # probability that a step is introduced, commented on …
_ASIDE = 0.3
_RECAP = 0.5
_NEW_LINE = 0.3

_WORDINGS: dict[Task, tuple[str, ...]] = {
    "calc": (
        "What is {}? Work from left to right, modulo ten.",
        "Compute {} from left to right, modulo ten.",
        "Please calculate {} from left to right and keep it modulo ten.",
    ),
    "max": (
        "What is the largest of {}?",
        "Find the maximum of {}.",
        "Which of these numbers is the largest: {}?",
    ),
    "rev": ("Reverse the list {}.", "Write {} in reverse order.", "What is {} read backwards?"),
}

_DIGITS = re.compile(r"\d+(?:, \d+)*")


@dataclass(frozen=True, slots=True)
class TaskProblem:
    """A problem, as a user types it."""

    task: Task
    text: str
    digits: tuple[int, ...]  # its operands, or its list
    operators: tuple[str, ...] = ()  # between the digits of a `calc` problem


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its text, the result so far, and whether it is wrong on purpose."""

    text: str
    result: str
    flawed: bool = False


@dataclass(frozen=True, slots=True)
class TraceSegment:
    """A part of a trace that one author should write, including white space."""

    kind: Kind
    text: str
    style: str = ""  # of a phrase; empty for capability
    flawed: bool = False  # the step is wrong on purpose


@dataclass(frozen=True, slots=True)
class Trace:
    """Thinking about a problem, and the result that follows from it (correct or not)."""

    problem: TaskProblem
    segments: tuple[TraceSegment, ...]
    result: str

    @property
    def thinking(self) -> str:
        """The complete thinking."""
        return "".join(segment.text for segment in self.segments)


def make_problem(task: Task, rng: Random, *, shortest: int = 3) -> TaskProblem:
    """Draw a problem of ``shortest`` to 6 digits (2 to 5 operators for ``calc`` by default).

    A list to reverse has at most 5 digits, which differ, so each step shows which one is next.
    """
    count = rng.randint(shortest, _LONGEST_REVERSED if task == "rev" else _MOST_DIGITS)
    if task == "rev":
        digits = tuple(rng.sample(range(MODULUS), count))
    else:
        digits = tuple(rng.randrange(MODULUS) for _ in range(count))
    operators = tuple(rng.choice("+-*") for _ in range(count - 1)) if task == "calc" else ()
    operands = ", ".join(map(str, digits))
    if task == "calc":
        tail = zip(operators, digits[1:], strict=True)
        operands = " ".join([str(digits[0]), *(f"{operator} {digit}" for operator, digit in tail)])
    return TaskProblem(task, rng.choice(_WORDINGS[task]).format(operands), digits, operators)


def solve(problem: TaskProblem) -> str:
    """Return the correct answer as text: ``4``, or ``5, 1, 3`` for a list."""
    return work(problem, Random(0))[-1].result


def work(
    problem: TaskProblem, rng: Random, *, skilled: bool = True, slips: float = 0.0
) -> list[Step]:
    """Return the steps that lead to the answer, the result of the last step.

    Unless ``skilled``, multiplication by 6 to 9 is random; ``slips`` is the probability of a wrong
    step.
    """
    if problem.task == "calc":
        return _calc(problem, rng, skilled, slips)
    if problem.task == "max":
        best = list(accumulate(problem.digits, max))
        pairs = zip(best, problem.digits[1:], best[1:], strict=False)
        return [Step(f"max({old}, {digit}) = {new}.", str(new)) for old, digit, new in pairs]
    reverse = [str(digit) for digit in reversed(problem.digits)]
    return [
        Step(f"put {digit}.", ", ".join(reverse[:count])) for count, digit in enumerate(reverse, 1)
    ]


def _calc(problem: TaskProblem, rng: Random, skilled: bool, slips: float) -> list[Step]:
    steps = []
    value = problem.digits[0]
    for operator, digit in zip(problem.operators, problem.digits[1:], strict=True):
        result = {"+": value + digit, "-": value - digit, "*": value * digit}[operator] % MODULUS
        unknown = operator == "*" and digit in HARD_FACTORS and not skilled
        flawed = unknown or rng.random() < slips
        if flawed:
            result = rng.randrange(MODULUS)
        steps.append(Step(f"{value} {operator} {digit} = {result}.", str(result), flawed))
        value = result
    return steps


def write_trace(
    problem: TaskProblem,
    styles: Sequence[Style],
    rng: Random,
    *,
    skilled: bool = True,
    slips: float = 0.0,
) -> Trace:
    """Write the thinking about ``problem``, each phrase in a style drawn from ``styles``.

    ``skilled`` and ``slips`` are those of :func:`work`.
    """
    writer = _TraceWriter(styles, rng)
    steps = work(problem, rng, skilled=skilled, slips=slips)
    writer.phrase("openers", new_line=0.5)
    for step in steps:
        if rng.random() < _LEAD:
            writer.phrase("leads")
        writer.capability(step.text, flawed=step.flawed)
        if rng.random() < _ASIDE:
            writer.phrase("asides", new_line=_NEW_LINE)
    result = steps[-1].result
    if rng.random() < _RECAP:
        writer.phrase("leads")
        writer.capability(f"{result}.")
        if rng.random() < _ASIDE:
            writer.phrase("asides")
    return Trace(problem, writer.finished(), result)


class _TraceWriter:
    """Collects segments, separated by a space or a line break."""

    def __init__(self, styles: Sequence[Style], rng: Random) -> None:
        self.segments: list[TraceSegment] = []
        self._styles = styles
        self._rng = rng
        self._separator = ""

    def phrase(self, place: Place, new_line: float = 0.0) -> None:
        style = self._rng.choice(self._styles)
        phrases: tuple[str, ...] = getattr(style, place)
        self._add(TraceSegment("style", self._rng.choice(phrases), style.name), new_line)

    def capability(self, text: str, *, flawed: bool = False) -> None:
        self._add(TraceSegment("capability", text, flawed=flawed), _NEW_LINE)

    def finished(self) -> tuple[TraceSegment, ...]:
        """Return the segments, without a line break at the end."""
        *before, last = self.segments
        return (*before, replace(last, text=last.text.removesuffix("\n")))

    def _add(self, segment: TraceSegment, new_line: float) -> None:
        end = "\n" if self._rng.random() < new_line else ""
        self.segments.append(replace(segment, text=self._separator + segment.text + end))
        self._separator = "" if end else " "


def read_answer(text: str) -> str | None:
    """Return the last number or list of numbers in an answer; None without one."""
    numbers = _DIGITS.findall(text)
    return numbers[-1] if numbers else None


def is_correct(answer: str, reference: str) -> bool:
    """Return whether the final answer ``answer`` (free text) is ``reference``."""
    return read_answer(answer) == reference
