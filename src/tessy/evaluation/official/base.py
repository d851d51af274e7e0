"""The description of a benchmark's official judge: its input and output files."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tessy.core.records import Evaluation, EvaluationOutcome, Key


class OfficialVerdict(NamedTuple):
    """A verdict on a response."""

    key: Key
    outcome: EvaluationOutcome  # correct, wrong or judge_error
    verdict: str  # as the judge names it
    answer: str | None = None  # the judged response, if the judge repeats it


@dataclass(frozen=True, slots=True)
class OfficialJudge:
    """A judge of one or more benchmarks.

    Attributes:
        name: Its name.
        benchmarks: Names of the benchmarks.
        export: Returns the content of its input file for rows, in the order of problems and
            samples.
        verdicts: Yields the verdicts in its output file; InputError names file, row and field.
            None if its verdicts are not read, because tessy judges all responses.
        next_step: What to do with the exported file, as a sentence.
        submit: Submits rows to a server at a URL and returns its verdicts. EngineError if it fails.
    """

    name: str
    benchmarks: tuple[str, ...]
    export: Callable[[Sequence[Evaluation]], bytes]
    verdicts: Callable[[Path], Iterator[OfficialVerdict]] | None
    next_step: str
    submit: Callable[[str, Sequence[Evaluation]], Coroutine[Any, Any, list[OfficialVerdict]]] | (
        None
    ) = None


def needs_verdict(row: Evaluation) -> bool:
    """Return whether a row needs a verdict of the official judge."""
    return row.outcome == "unjudged" and row.reason is None and row.final_answer is not None
