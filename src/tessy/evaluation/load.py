"""The problems of a benchmark, with the judge and the reference answer of each."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tessy.config.evaluation import EvaluateConfig
from tessy.core.errors import BadRowsError, ConfigError, InputError
from tessy.core.records import Message, Problem, problem_digest
from tessy.evaluation.benchmarks.base import Benchmark
from tessy.evaluation.benchmarks.registry import all_benchmarks
from tessy.evaluation.judges.base import Judge
from tessy.evaluation.judges.choice import LETTERS, choices_of
from tessy.evaluation.judges.registry import all_judges
from tessy.storage.conversations import get
from tessy.storage.problems import LoadedProblems, UnusableProblem, load_problems
from tessy.storage.sources import resolve_sources

_CHUNK_BYTES = 1 << 20
_CHOOSE = "Answer with the letter of the correct choice."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JudgedProblem:
    """How the responses to a problem are judged."""

    judge: Judge
    reference: str


@dataclass(frozen=True, slots=True)
class LoadedBenchmark:
    """The problems of a benchmark as the model reads them.

    ``sha256`` is that of the file. ``digest`` identifies problems and references; unlike the
    checksum it does not depend on the format of the file.
    """

    name: str
    sha256: str
    digest: str
    loaded: LoadedProblems
    judged: Mapping[str, JudgedProblem]  # by the problem's id

    @property
    def judges(self) -> str:
        """Names and versions of the judges."""
        return ", ".join(sorted({one.judge.title for one in self.judged.values()}))


def load_benchmark(config: EvaluateConfig) -> LoadedBenchmark:
    """Load the problems and check them, before anything is generated.

    Raises:
        ConfigError: There is no such benchmark, or an option does not apply to it.
        InputError: The file cannot be read, or is not that of the benchmark.
        BadRowsError: Problems are unusable, or without a reference answer.
    """
    benchmark, file = _find(config)
    sha256 = _sha256(file)
    _check_file(benchmark, file, sha256, from_hub=config.data is None)
    fields = dict(benchmark.fields) | config.fields
    rules = _Rules(config.judge or benchmark.judge, fields.pop("choices", None))
    try:
        loaded = load_problems(
            file,
            fields={**fields, "choices": ""},  # choices that the prompt lacks are added below
            skip_bad_rows=config.skip_bad_rows,
            likely_prompts=True,
            check=rules.check,
        )
    except BadRowsError as error:
        remedy = "fix them, map the fields (--fields reference=NAME), or pass --skip-bad-rows"
        raise BadRowsError(error.faults, remedy) from None
    if benchmark.rows not in (None, len(loaded.problems)):
        raise InputError(
            f"{file} has {len(loaded.problems)} problems, but {benchmark.name} has "
            f"{benchmark.rows}; pass its whole file with --data, or score another file of your own "
            f"with --benchmark {file} (--limit takes the first problems)"
        )
    instruction = benchmark.instruction if config.instruction is None else config.instruction
    judged = {problem.id: rules.judged(problem) for problem in loaded.problems}
    problems = tuple(
        _as_asked(problem, rules.fields_of(problem), instruction) for problem in loaded.problems
    )
    return LoadedBenchmark(
        name=benchmark.name if benchmark.hub else file.name,
        sha256=sha256,
        digest=_digest(loaded.problems, judged),
        loaded=replace(loaded, problems=problems),
        judged=judged,
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """Which judge judges a problem."""

    judge: str | None  # name; None: by the problem
    choices: str | None  # field with the choices; None: its usual names

    def fields_of(self, problem: Problem) -> dict[str, Any]:
        """Return the problem's fields, with the choices under their usual name."""
        extra = problem.extra
        return {**extra, "choices": get(extra, self.choices)} if self.choices else extra

    def judge_of(self, problem: Problem) -> Judge:
        """Return the judge of a problem."""
        by_problem = "choice" if choices_of(self.fields_of(problem)) else "maths"
        return all_judges()[self.judge or by_problem]

    def check(self, problem: Problem) -> UnusableProblem | None:
        """Return why a problem cannot be judged, or None."""
        judge = self.judge_of(problem)
        if judge.reference(self.fields_of(problem)) is not None:
            return None
        return UnusableProblem("reference", f"the judge {judge.name} expects {judge.needs}")

    def judged(self, problem: Problem) -> JudgedProblem:
        """Return how the responses to a problem are judged."""
        judge = self.judge_of(problem)
        return JudgedProblem(judge, str(judge.reference(self.fields_of(problem))))


def _find(config: EvaluateConfig) -> tuple[Benchmark, Path]:
    """Return the benchmark and its local file, downloaded if need be."""
    named = all_benchmarks().get(config.benchmark)
    if named is None:
        file = Path(config.benchmark)
        if config.data is not None:
            raise ConfigError(
                f"data: --benchmark {config.benchmark} is a file already; leave the option out, or "
                f"name one of {', '.join(all_benchmarks())}"
            )
        if not file.is_file():
            raise ConfigError(
                f"benchmark: {config.benchmark!r} is no file and no benchmark; expected a file of "
                f"problems, or one of {', '.join(all_benchmarks())}"
            )
        return all_benchmarks()["jsonl"], file
    if config.data is not None:
        if not config.data.is_file():
            raise InputError(f"data: there is no file {config.data}; check the path")
        return named, config.data
    if named.hub is None:
        raise ConfigError(f"benchmark: {named.name} needs a file; pass it with --data")
    try:
        (file,) = resolve_sources([named.hub.source])
    except InputError as error:
        raise InputError(f"{error}; pass a local file of {named.name} with --data") from error
    return named, file


def _check_file(benchmark: Benchmark, file: Path, sha256: str, *, from_hub: bool) -> None:
    if not benchmark.sha256 or sha256 in benchmark.sha256:
        return
    if from_hub:
        raise InputError(
            f"the file of {benchmark.name} from the hub has the SHA-256 {sha256}, which is not the "
            f"expected one; delete {file}, or pass a file that you trust with --data"
        )
    log.warning(
        "%s is not a file of %s that tessy knows (SHA-256 %s): its scores may differ from others",
        file,
        benchmark.name,
        sha256,
    )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; check the path") from error
    return digest.hexdigest()


def _as_asked(problem: Problem, fields: dict[str, Any], instruction: str) -> Problem:
    """Return the problem with the choices that it lacks, and the instruction."""
    *before, last = problem.messages
    parts, choices = [last.content], choices_of(fields)
    if any(text not in last.content for text in choices):
        lines = (f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))
        parts += ["\n".join(lines), instruction or _CHOOSE]
    elif instruction:
        parts.append(instruction)
    turn = Message(role="user", content="\n\n".join(parts))
    return problem.model_copy(update={"messages": (*before, turn), "extra": fields})


def _digest(problems: tuple[Problem, ...], judged: Mapping[str, JudgedProblem]) -> str:
    content = [[problem_digest(p.messages), judged[p.id].reference] for p in problems]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
