"""The description of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tessy.evaluation.sources.base import AnswerSource, BenchmarkData, HubFile, ProblemSource

BOXED = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
"""Instruction of maths benchmarks."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark, defined as ``BENCHMARK`` by a module of this package.

    Attributes:
        name: Name on the command line.
        about: What its problems are, in a few words.
        rows: Number of its problems; None: any.
        judge: Name of the judge of its answers; None: by the problem.
        files: Its files on the hub; empty: the user names a file.
        copies: Checksums of other files with the same problems, or their first digits.
        fields: Names of the files' fields, by tessy's name.
        instruction: Text after each problem, with the white space before it.
        reference: Converts a reference answer; None if it cannot be one of this benchmark.
        source: Opens the data.
    """

    name: str
    about: str
    rows: int | None = None
    judge: str | None = None
    files: tuple[HubFile, ...] = ()
    copies: frozenset[str] = frozenset()
    fields: Mapping[str, str] = field(default_factory=dict)
    instruction: str = ""
    reference: Callable[[str], str | None] = str
    source: Callable[[BenchmarkData], ProblemSource] = AnswerSource

    @property
    def has_own_format(self) -> bool:
        """Whether its files have a format of their own, not that of files of problems."""
        return self.source is not AnswerSource


OWN_FILE = Benchmark(name="", about="problems of a file")
"""Any file of problems with reference answers, or with choices."""
