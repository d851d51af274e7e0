"""``tessy plan``: run a pilot and estimate the cost of the whole file.

The pilot's samples are ordinary rows of the run directory; ``synthesize`` with the same options
continues the run.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console

from tessy.config.synthesis import PlanConfig, SynthesisOptions, SynthesizeConfig
from tessy.core.formatting import counted, tally
from tessy.core.records import Key
from tessy.plan.estimate import MIN_UNITS, Scope
from tessy.plan.figures import PlanInputs, make_plan
from tessy.plan.pilot import Load, draw, measured_load, saved_load
from tessy.plan.report import print_plan, write_plan
from tessy.plan.rows import PilotSample, read_pilot_samples
from tessy.runtime.summary import wall_seconds
from tessy.storage.problems import LoadedProblems
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.problems import load_run_problems
from tessy.synthesis.run import SessionResult, run_samples
from tessy.synthesis.setup import models

EXIT_TOO_FEW = 1


def plan(config: PlanConfig) -> int:
    """Run the missing part of the pilot and print an estimate for the whole file.

    Returns:
        The exit code: 0; 1 if too few samples finished for an interval; or that of the pilot.

    Raises:
        InputError: Options, problems, models or the run directory are unusable; nothing started.
        EngineError: The servers failed permanently; finished samples are kept.
    """
    return plan_problems(config, load_run_problems(config))


def plan_problems(
    config: PlanConfig, loaded: LoadedProblems, console: Console | None = None
) -> int:
    """Do the same as :func:`plan` with problems that are already loaded.

    Args:
        config: The options; ``problems`` is ignored.
        loaded: The problems.
        console: Receives the plan; standard output by default.
    """
    console = console or Console()
    problems = loaded.problems[: config.limit]
    rounds = config.samples_per_problem
    wanted = {(problem.id, sample) for sample in range(rounds) for problem in problems}
    paths = RunPaths(config.out)
    chosen = draw(problems, rounds, config.pilot, config.seed)
    session = run_samples(_synthesis(config), loaded, chosen=chosen)
    if session.exit_code:
        return session.exit_code
    made = read_pilot_samples(paths, wanted)
    written = config.out / "plan.json"
    given = PlanInputs(
        made=made,
        scope=_scope(wanted, made),
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
    """Return the options of the planned run, without budgets, which the plan only compares."""
    options = {name: getattr(config, name) for name in SynthesisOptions.model_fields}
    return SynthesizeConfig(
        **{**options, "out": config.out, "budget_hours": None, "budget_tokens": None}
    )


def _scope(wanted: set[Key], made: list[PilotSample]) -> Scope:
    left = wanted - {one.key for one in made}
    unseen = {problem for problem, _ in wanted} - {one.question for one in made}
    return Scope(len(left), len({problem for problem, _ in left}), len(unseen))


def _load(session: SessionResult, made: list[PilotSample], written: Path) -> Load | None:
    """Return the load of the servers, if it was measured on at least half of the samples."""
    measured = measured_load(session.progress, made) if session.progress else None
    for load in (measured, saved_load(written)):
        if load is not None and 2 * load.samples >= len(made):
            return load
    return None


def _too_few(made: list[PilotSample]) -> str:
    reasons = Counter(one.reason for one in made if one.reason is not None)
    failed = tally(dict(reasons.most_common()))
    return (
        f"Only {len(made) - reasons.total()} of {counted(len(made), 'sample')} finished (failed: "
        f"{failed or 'none'}), but an interval needs {MIN_UNITS}. Run `tessy doctor` with the same "
        "options to find the cause, or pass a larger --pilot, which keeps these samples."
    )


def _closing(scope: Scope, written: Path) -> str:
    more = " `tessy synthesize` with the same options continues the run." if scope.samples else ""
    return f"The figures as JSON: {written}.{more}"
