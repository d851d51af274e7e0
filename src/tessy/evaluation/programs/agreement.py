"""Compares the judge with known verdicts: ``scripts/judge-agreement FILE``.

FILE has a JSON object a line:

  question_id  text; shown if the verdicts differ
  fn_name      name of the method of `Solution` to call; null if the program reads standard input.
               In a row without this field it is the method of a class `Solution` in the program
               that takes as many arguments as the first input has lines
  code         the program, in Python
  inputs       list of texts: what the program reads, or the arguments as JSON, one a line
  outputs      list of texts, one for each input: what it must write, or the result as JSON
  verdict      true if the program passes all tests, by the judge to compare with
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tessy.core.errors import EXIT_INTERRUPTED, InputError, TessyError
from tessy.core.formatting import percent
from tessy.core.statistics import wilson
from tessy.evaluation.programs.base import (
    ProgramJudge,
    ProgramTest,
    ProgramTests,
    ProgramVerdict,
)
from tessy.evaluation.programs.judge import open_judge

_INPUT_ERROR = 2


class KnownVerdict(BaseModel):
    """A program, its tests, and the verdict of another judge. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    question_id: str
    fn_name: str | None = None
    code: str
    inputs: list[str] = Field(min_length=1)
    outputs: list[str]
    verdict: bool

    @model_validator(mode="after")
    def _same_number(self) -> Self:
        if len(self.inputs) != len(self.outputs):
            raise ValueError(f"{len(self.inputs)} inputs, but {len(self.outputs)} outputs")
        return self

    @property
    def function(self) -> str | None:
        """Name of the method to call; None if the program reads standard input."""
        if "fn_name" in self.model_fields_set:
            return self.fn_name
        return method_of_solution(self.code, len(self.inputs[0].rstrip("\n").split("\n")))

    def tests(self, seconds: float, memory_mib: int) -> ProgramTests:
        """Return the tests with these limits."""
        loaded = [*map(ProgramTest, self.inputs, self.outputs)]
        return ProgramTests(
            language="python",
            kind="functional" if self.function else "stdin",
            load=lambda: loaded,
            function=self.function,
            seconds=seconds,
            memory_mib=memory_mib,
        )


def method_of_solution(code: str, arguments: int) -> str | None:
    """Return the name of the last public method of ``Solution`` with so many arguments.

    None if the program has no such method, or is not Python.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    methods = [
        method
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Solution"
        for method in node.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
    ]
    found = [m.name for m in methods if len(m.args.args) - 1 == arguments]
    return found[-1] if found else None


class Comparison(NamedTuple):
    """A known verdict, and that of our judge."""

    known: KnownVerdict
    found: ProgramVerdict

    @property
    def judged(self) -> bool:
        """Whether there is a verdict: the sandbox worked, and the tests are usable."""
        return self.found.status != "judge_error"

    @property
    def agrees(self) -> bool:
        """Whether they are the same; False if the program could not be judged."""
        return self.judged and (self.found.status == "accepted") == self.known.verdict

    def __str__(self) -> str:
        test = "" if self.found.test is None else f" at test {self.found.test}"
        detail = f" ({self.found.detail})" if self.found.detail else ""
        expected = "accepted" if self.known.verdict else "not accepted"
        other = f", not {expected}" if self.judged else ""
        return f"  {self.known.question_id}: {self.found.status}{test}{detail}{other}"


def read_known_verdicts(file: Path) -> Sequence[KnownVerdict]:
    """Return the rows of a file.

    Raises:
        InputError: The file cannot be read or has no rows, or a row is invalid.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    rows = [_row(f"{file}:{n}", line) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InputError(f"{file} has no rows; give a JSON object a line")
    return rows


def _row(place: str, line: bytes) -> KnownVerdict:
    try:
        return KnownVerdict.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "(row)"
        raise InputError(f"{place}: {field}: {first['msg']}; fix this row") from None


async def compare_verdicts(
    judge: ProgramJudge, rows: Sequence[KnownVerdict], *, seconds: float, memory_mib: int
) -> Sequence[Comparison]:
    """Judge all programs; the order is that of the rows."""
    judged = (judge.judge(row.code, row.tests(seconds, memory_mib)) for row in rows)
    return [*map(Comparison, rows, await asyncio.gather(*judged))]


def report(comparisons: Sequence[Comparison]) -> str:
    """Return the agreement of the judged programs, with a line for each differing verdict.

    The number of programs that could not be judged follows, with a line for each.
    """
    judged = [one for one in comparisons if one.judged]
    failed = [one for one in comparisons if not one.judged]
    lines = ["agreement unknown, n = 0"]
    if n := len(judged):
        share = sum(one.agrees for one in judged) / n
        low, high = wilson(share, n)
        lines = [f"agreement {percent(share)} (95 %: {percent(low)}–{percent(high)}), n = {n}"]
    lines += [str(one) for one in judged if not one.agrees]
    if failed:
        lines.append(f"not judged: {len(failed)} of {len(comparisons)}")
    return "\n".join([*lines, *map(str, failed)])


def _suffices(comparisons: Sequence[Comparison], least: float) -> bool:
    """Return whether the share of judged programs and their agreement are at least ``least``."""
    judged = sum(one.judged for one in comparisons)
    agreeing = sum(one.agrees for one in comparisons)
    return judged > 0 and judged >= least * len(comparisons) and agreeing >= least * judged


def main(argv: list[str] | None = None) -> int:
    """Judge the programs of a file and print the agreement.

    Returns:
        The exit code: 0; 1 if the agreement, or the share of judged programs, is too small; 2 for
        invalid input; 130 after Ctrl-C.
    """
    options = _parser().parse_args(argv)
    try:
        rows = read_known_verdicts(options.file)
        judge = open_judge(workers=options.workers, allow_unsafe=options.allow_unsafe_judging)
    except TessyError as error:
        print(error, file=sys.stderr)
        return _INPUT_ERROR
    print(judge.version)
    try:
        limits = {"seconds": options.seconds, "memory_mib": options.memory_mib}
        comparisons = asyncio.run(compare_verdicts(judge, rows, **limits))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        judge.close()
    print(report(comparisons))
    return int(not _suffices(comparisons, options.least))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/judge-agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the rows")
    parser.add_argument(
        "--least",
        type=float,
        default=0.99,
        metavar="SHARE",
        help="exit with status 1 if the agreement, or the share of judged programs, is below this "
        "(default: 0.99)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="programs at the same time (default: number of processors)",
    )
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="CPU time of a test (default: 6)"
    )
    parser.add_argument(
        "--memory-mib", type=int, default=4096, help="memory of a test in MiB (default: 4096)"
    )
    parser.add_argument(
        "--allow-unsafe-judging",
        action="store_true",
        help="run programs without protection if no sandbox works",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
