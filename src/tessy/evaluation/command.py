"""``tessy evaluate``: from a benchmark to a run directory with scores."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tessy.config.base import GenerationOptions, ModelConfig
from tessy.config.evaluation import EvaluateConfig
from tessy.config.predictors import ResponseSampling, SampleConfig
from tessy.core.formatting import counted
from tessy.evaluation.checkpoints import (
    PLOT,
    Checkpoint,
    EpochScore,
    find_checkpoints,
    has_own_model,
    write_epochs,
)
from tessy.evaluation.grading import Grader
from tessy.evaluation.load import LoadedBenchmark, load_benchmark
from tessy.evaluation.programs.base import ProgramJudge
from tessy.evaluation.results import KNOWN_DATA, PLANNED, SCORES, Result, read_result, result_table
from tessy.runtime.progress import SteadyConsole
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import EVALUATIONS
from tessy.synthesis.output import RunOutput
from tessy.synthesis.run import run_samples
from tessy.synthesis.setup import check_folders

EXIT_UNSCORED = 1
_EMPTY_PROGRAM = "int main() {}\n"


def run_directories(config: EvaluateConfig) -> list[Path]:
    """Return the run directories of a command; several if it evaluates checkpoints."""
    return [config.out / one.name for one in _checkpoints(config)] or [config.out]


def evaluate(config: EvaluateConfig) -> int:
    """Generate, judge and score; can be interrupted and resumed at any time.

    Returns:
        The exit code: 0; 130 if Ctrl-C stopped the run gracefully; 1 if responses have no score
        (without ``allow_unscored``), or if none could be generated.

    Raises:
        InputError: Options, problems, the model or the run directory are unusable; nothing started.
        EngineError: The servers failed permanently; finished rows are kept.
    """
    check_folders(_generation(config))
    checkpoints = _checkpoints(config)
    benchmark = load_benchmark(config)
    if not checkpoints:
        return _evaluate_model(config, benchmark)[0]
    console = SteadyConsole(stderr=True)
    scores: list[EpochScore] = []
    worst = 0
    for checkpoint in checkpoints:
        console.print(f"Checkpoint {checkpoint.title}:", soft_wrap=True, markup=False)
        options = {"model": str(checkpoint.folder), "out": config.out / checkpoint.name}
        code, result = _evaluate_model(config.model_copy(update=options), benchmark)
        if code not in (0, EXIT_UNSCORED):
            return code
        worst = max(worst, code)
        scores.append(EpochScore(checkpoint, result.score))
    console.print(write_epochs(config.out, benchmark.name, scores))
    files = f"{config.out / PLOT} and {config.out / SCORES}"
    console.print(f"Scores by epoch: {files}", soft_wrap=True, markup=False)
    return worst


def _checkpoints(config: EvaluateConfig) -> list[Checkpoint]:
    if not config.checkpoints and (config.url or has_own_model(config.model)):
        return []
    return find_checkpoints(config)


def _evaluate_model(config: EvaluateConfig, benchmark: LoadedBenchmark) -> tuple[int, Result]:
    planned = _count_planned(config, benchmark)
    workers = config.judge_workers or len(os.sched_getaffinity(0))
    programs = _open_program_judge(config, workers, benchmark)
    version = "" if programs is None else programs.version
    grader = Grader(benchmark.judged, programs, workers)
    output = RunOutput(
        kind=EVALUATIONS,
        options=config,
        data={
            "command": "evaluate",
            "benchmark": benchmark.name,
            "benchmark.digest": benchmark.digest,
            "instruction": config.instruction,
            "judge": benchmark.judges(version),
        },
        facts={PLANNED: planned, KNOWN_DATA: benchmark.is_known},
        strategy="evaluate",
        finish=grader.finish,
    )
    try:
        code = run_samples(_generation(config), benchmark.loaded, output=output).exit_code
    finally:
        grader.close()
    result = read_result(config.out)
    document = result.to_json()
    document["benchmark"]["sha256"] = benchmark.sha256
    if programs is not None:
        document["sandbox"] = dict(programs.record)
    jsonl.write_json(config.out / SCORES, document)
    console = SteadyConsole(stderr=True)
    console.print(result_table(result))
    if result.waiting:
        console.print(
            f"{counted(result.waiting, 'response')} without a verdict of the official judge. "
            f"`tessy judge {config.out} --export FILE` writes them for it, and --verdicts reads "
            "its verdicts.",
            soft_wrap=True,
            markup=False,
        )
    if result.unscored:
        console.print(
            f"{result.unscored} samples have no score, and the scores do not count them. "
            "--retry-failed generates samples of failed servers again.",
            soft_wrap=True,
        )
        if not code and not config.allow_unscored:
            code = EXIT_UNSCORED
    return code, result


def _open_program_judge(
    config: EvaluateConfig, workers: int, benchmark: LoadedBenchmark
) -> ProgramJudge | None:
    """Open the judge of programs, which tests its sandbox; None if no problem has tests.

    Raises:
        InputError: It cannot be used, or cannot compile the checker of a problem.
    """
    tests = next(filter(None, (one.tests for one in benchmark.judged.values())), None)
    if tests is None:
        return None
    from tessy.evaluation.programs.judge import open_judge

    judge = open_judge(
        workers=workers,
        allow_unsafe=config.allow_unsafe_judging,
        python=config.judge_python,
    )
    if tests.kind == "checker":
        try:  # a missing compiler or header would stop the run at its first verdict
            asyncio.run(judge.judge(_EMPTY_PROGRAM, tests))
        except BaseException:
            judge.close()
            raise
    return judge


def _count_planned(config: EvaluateConfig, benchmark: LoadedBenchmark) -> int:
    """Return the number of samples of the complete run: those requested, and those it has."""
    problems = benchmark.loaded.problems[: config.limit]
    keys = {(problem.id, sample) for problem in problems for sample in range(config.samples)}
    if not config.fresh:
        paths = RunPaths(config.out, EVALUATIONS.name)
        files = [*paths.row_files(), *paths.failure_files()]
        keys |= jsonl.last_rows(files, EVALUATIONS.key_of).keys()
    return len(keys)


def _generation(config: EvaluateConfig) -> SampleConfig:
    """Return the options of the run that generates the responses.

    A sample has one attempt: another draw after a failure would raise the score.
    """
    names = {*GenerationOptions.model_fields, *ModelConfig.model_fields} - {"sampling"}
    return SampleConfig(
        **{name: getattr(config, name) for name in names},
        author="student",
        problems=(Path(config.benchmark),),
        samples_per_problem=config.samples,
        attempts=1,
        no_ids=True,
        sampling=ResponseSampling(**config.sampling.model_dump()),
        out=config.out,
    )
