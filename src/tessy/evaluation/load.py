"""The problems of a benchmark, with the judge and the reference answer of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tessy.config.evaluation import EvaluateConfig
from tessy.core.errors import BadRowsError, ConfigError, InputError
from tessy.core.records import Message, Problem, problem_digest
from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.files import FoundBenchmark, find_benchmark
from tessy.evaluation.judges.base import Judge
from tessy.evaluation.judges.choice import LETTERS, choices_of
from tessy.evaluation.judges.registry import all_judges
from tessy.evaluation.programs.base import ProgramTests
from tessy.evaluation.programs.task import ProgramTask
from tessy.evaluation.sources.base import ProblemSource
from tessy.storage.conversations import get
from tessy.storage.problems import LoadedProblems, UnusableProblem, load_problems

_CHOOSE = "Answer with the letter of the correct choice."


@dataclass(frozen=True, slots=True)
class JudgedProblem:
    """How the responses to a problem are judged: by its reference, or as programs."""

    judge: Judge | ProgramTask
    reference: str = ""  # empty for programs

    def title(self, programs: str) -> str:
        """Return name and version of the judge; ``programs`` is that of the program judge."""
        judge = self.judge
        return judge.title(programs) if isinstance(judge, ProgramTask) else judge.title

    @property
    def tests(self) -> ProgramTests | None:
        """Tests of programs that are run on this machine; None if none are."""
        return self.judge.tests if isinstance(self.judge, ProgramTask) else None

    @property
    def digest(self) -> str:
        """Text that identifies the correct responses: the reference, or a digest of the tests."""
        return self.judge.digest if isinstance(self.judge, ProgramTask) else self.reference


@dataclass(frozen=True, slots=True)
class LoadedBenchmark:
    """The problems of a benchmark as the model reads them.

    ``sha256`` is that of the file; of several files, that of their checksums. ``digest`` identifies
    problems, references and tests; unlike the checksum it does not depend on the format of a file.
    ``is_known`` is False for a user's own file, and for a file with none of the benchmark's known
    checksums.
    """

    name: str
    sha256: str
    digest: str
    loaded: LoadedProblems
    judged: Mapping[str, JudgedProblem]  # by the problem's id
    is_known: bool = False

    def judges(self, programs: str = "") -> str:
        """Return names and versions of the judges; ``programs`` is that of the program judge."""
        return ", ".join(sorted({one.title(programs) for one in self.judged.values()}))


def load_benchmark(config: EvaluateConfig) -> LoadedBenchmark:
    """Load the problems and check them, before anything is generated.

    Raises:
        ConfigError: There is no such benchmark, or an option does not apply to it.
        InputError: The file cannot be read, or is not that of the benchmark.
        BadRowsError: Problems are unusable, or without a reference answer.
    """
    found = find_benchmark(config)
    benchmark, source = found.benchmark, found.benchmark.source(found.data)
    _check_options(config, benchmark)
    fields = dict(benchmark.fields) | config.fields
    rules = _Rules(benchmark, source, config.judge, fields.pop("choices", None))
    try:
        loaded = load_problems(
            found.data.files,
            fields={**fields, "choices": ""},  # choices that the prompt lacks are added below
            skip_bad_rows=config.skip_bad_rows,
            likely_prompts=True,
            check=rules.check,
            rows=source.rows,
        )
    except BadRowsError as error:
        remedy = "fix them, map the fields (--fields reference=NAME), or pass --skip-bad-rows"
        if benchmark.has_own_format:
            remedy = f"pass another file of {benchmark.name} with --data"
        raise BadRowsError(error.faults, remedy) from None
    if benchmark.rows not in (None, len(loaded.problems)):
        raise _wrong_number(found, len(loaded.problems))
    found.warn_of_other_files()
    judged = {problem.id: rules.judged(problem) for problem in loaded.problems}
    problems = tuple(
        _with_instruction(problem, rules.fields_of(problem), benchmark, config.instruction)
        for problem in loaded.problems
    )
    return LoadedBenchmark(
        name=found.name,
        sha256=found.sha256,
        digest=_digest(loaded.problems, judged),
        loaded=replace(loaded, problems=problems),
        judged=judged,
        is_known=found.is_known,
    )


def _check_options(config: EvaluateConfig, benchmark: Benchmark) -> None:
    """Raise ConfigError for options that do not apply to a benchmark with a format of its own."""
    if not benchmark.has_own_format:
        return
    for option, value in (("--fields", config.fields), ("--skip-bad-rows", config.skip_bad_rows)):
        if value:
            raise ConfigError(
                f"{option}: the files of {benchmark.name} have a format of their own; leave the "
                "option out"
            )


def _wrong_number(found: FoundBenchmark, count: int) -> InputError:
    benchmark, files = found.benchmark, found.data.files
    names = " and ".join(map(str, files)) if len(files) < 3 else f"{files[0].parent}"
    remedy = "pass its whole file with --data"
    if len(benchmark.files) > 1:
        expected = ", ".join(Path(file.path).name for file in benchmark.files)
        remedy = f"pass a folder with {expected} with --data"
    elif not benchmark.has_own_format:
        remedy += (
            f", or score another file of your own with --benchmark {names} (--limit takes the "
            "first problems)"
        )
    verb = "has" if len(files) == 1 or len(files) > 2 else "have"
    return InputError(
        f"{names} {verb} {count:,} problems, but {benchmark.name} has {benchmark.rows:,}; {remedy}"
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """Selects the judge of each problem."""

    benchmark: Benchmark
    source: ProblemSource
    judge: str | None  # name that the user chose
    choices: str | None  # field with the choices; None: its usual names

    def fields_of(self, problem: Problem) -> dict[str, Any]:
        """Return the problem's fields, with the choices under their usual name."""
        extra = problem.extra
        return {**extra, "choices": get(extra, self.choices)} if self.choices else extra

    def _judge_of(self, problem: Problem) -> Judge:
        by_problem = "choice" if choices_of(self.fields_of(problem)) else "maths"
        return all_judges()[self.judge or self.benchmark.judge or by_problem]

    def _reference(self, judge: Judge, problem: Problem) -> str | None:
        reference = judge.reference(self.fields_of(problem))
        return None if reference is None else self.benchmark.reference(reference)

    def check(self, problem: Problem) -> UnusableProblem | None:
        """Return why a problem cannot be judged, or None."""
        if self.source.program(problem) is not None:
            return None
        judge = self._judge_of(problem)
        if self._reference(judge, problem) is not None:
            return None
        return UnusableProblem("reference", f"the judge {judge.name} expects {judge.needs}")

    def judged(self, problem: Problem) -> JudgedProblem:
        """Return how the responses to a problem are judged.

        Raises:
            ConfigError: The user chose a judge of answers, but they are programs.
        """
        program = self.source.program(problem)
        if program is not None:
            if self.judge is not None:
                raise ConfigError(
                    f"--judge: the responses to {self.benchmark.name} are programs, which "
                    f"{self.judge} does not judge; leave the option out"
                )
            return JudgedProblem(program)
        judge = self._judge_of(problem)
        return JudgedProblem(judge, str(self._reference(judge, problem)))


def _with_instruction(
    problem: Problem, fields: dict[str, Any], benchmark: Benchmark, instruction: str | None
) -> Problem:
    """Return the problem with the choices that it lacks, and the instruction."""
    *before, last = problem.messages
    after = benchmark.instruction if instruction is None else instruction and f"\n\n{instruction}"
    text, choices = last.content, choices_of(fields)
    if any(choice not in text for choice in choices):
        lines = (f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        text += "\n\n" + "\n".join(lines)
        after = after or f"\n\n{_CHOOSE}"
    turn = Message(role="user", content=text + after)
    return problem.model_copy(update={"messages": (*before, turn), "extra": fields})


def _digest(problems: tuple[Problem, ...], judged: Mapping[str, JudgedProblem]) -> str:
    content = [[problem_digest(p.messages), judged[p.id].digest] for p in problems]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
