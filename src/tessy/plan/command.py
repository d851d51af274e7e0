"""``tessy plan``: a pilot, and what the whole file would take.

The pilot's samples are ordinary rows of the run directory: ``synthesize`` with the same options
keeps them and continues.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console

from tessy.config.synthesis import PlanConfig, SynthesisOptions, SynthesizeConfig
from tessy.core.formatting import tally
from tessy.plan.estimate import MIN_UNITS, Scope
from tessy.plan.figures import PlanInputs, make_plan
from tessy.plan.pilot import Load, draw, measured_load, saved_load
from tessy.plan.report import print_plan, write_plan
from tessy.plan.rows import PilotSample, read_made
from tessy.runtime.summary import wall_seconds
from tessy.storage.problems import LoadedProblems
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.problems import load_run_problems, with_system_prompt
from tessy.synthesis.run import SessionResult, run_samples
from tessy.synthesis.sample import SampleJob
from tessy.synthesis.setup import models

EXIT_TOO_FEW = 1


def plan(config: PlanConfig) -> int:
    """Make the pilot, as far as it is missing, and say what the whole file would take.

    Returns:
        The exit code: 0; 1 if too few samples could be finished for an interval; or what the pilot
        ended with.

    Raises:
        InputError: Options, problems, models or the run directory are unusable; nothing started.
        EngineError: The servers are gone for good; what was made is kept.
    """
    return plan_problems(config, load_run_problems(config))


def plan_problems(
    config: PlanConfig, loaded: LoadedProblems, console: Console | None = None
) -> int:
    """Return the same as :func:`plan` with problems that are loaded already.

    Args:
        config: The options; ``problems`` is not read.
        loaded: The problems.
        console: Where the plan goes; standard output by default.
    """
    console = console or Console()
    problems = [with_system_prompt(config, problem) for problem in loaded.problems[: config.limit]]
    rounds = config.samples_per_problem
    jobs = [SampleJob(problem, sample) for sample in range(rounds) for problem in problems]
    paths = RunPaths(config.out)
    chosen = draw(problems, rounds, config.pilot, config.seed)
    session = run_samples(_synthesis(config), loaded, chosen=chosen)
    if session.exit_code:
        return session.exit_code
    made = read_made(paths, {job.key for job in jobs})
    written = config.out / "plan.json"
    given = PlanInputs(
        made=made,
        scope=_scope(jobs, made),
        slots=session.slots or 1,
        load=_load(session, made, written),
        wall_seconds=wall_seconds(paths.summary),
        journal_bytes=paths.journal.stat().st_size,
        drawn={one.key for one in made} == draw(problems, rounds, len(made), config.seed),
    )
    found = make_plan(given)
    if found is None:
        console.print(_too_few(made), soft_wrap=True, highlight=False)
        return EXIT_TOO_FEW
    write_plan(found, written)
    names = {author: model.model for author, model in models(config).items()}
    print_plan(found, config, names, console)
    console.print(_closing(given.scope, written), soft_wrap=True, highlight=False, markup=False)
    return 0


def _synthesis(config: PlanConfig) -> SynthesizeConfig:
    """The run that the plan is of; a budget is the whole run's, and compared, not spent here."""
    options = {name: getattr(config, name) for name in SynthesisOptions.model_fields}
    return SynthesizeConfig(
        **{**options, "out": config.out, "budget_hours": None, "budget_tokens": None}
    )


def _scope(jobs: list[SampleJob], made: list[PilotSample]) -> Scope:
    there = {one.key for one in made}
    seen = {one.question for one in made}
    come = [job.problem.id for job in jobs if job.key not in there]
    return Scope(len(come), len(set(come)), len({job.problem.id for job in jobs} - seen))


def _load(session: SessionResult, made: list[PilotSample], written: Path) -> Load | None:
    """Return how busy the servers were, if that was measured on half of the samples or more."""
    measured = measured_load(session.progress, made) if session.progress else None
    for load in (measured, saved_load(written)):
        if load is not None and 2 * load.samples >= len(made):
            return load
    return None


def _too_few(made: list[PilotSample]) -> str:
    reasons = Counter(one.reason for one in made if one.reason is not None)
    failed = tally(dict(reasons.most_common()))
    return (
        f"Only {len(made) - reasons.total()} of {len(made)} samples could be finished (failed: "
        f"{failed or 'none'}): an interval needs {MIN_UNITS}. `tessy doctor` with the same options "
        "says what to fix; a larger --pilot keeps these samples and makes more."
    )


def _closing(scope: Scope, written: Path) -> str:
    more = " `tessy synthesize` with the same options continues the run." if scope.samples else ""
    return f"The same figures for programs: {written}.{more}"
