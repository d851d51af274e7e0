"""``tessy plan``: run a pilot and estimate the cost of the whole file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console

from tessy.config.synthesis import PlanConfig, SynthesisOptions, SynthesizeConfig
from tessy.core.errors import reason_labels
from tessy.core.formatting import counted, tally
from tessy.core.records import Author, Key
from tessy.plan.estimate import MIN_UNITS, Scope
from tessy.plan.figures import PlanInputs, make_plan
from tessy.plan.pilot import (
    Load,
    PilotSample,
    draw,
    measured_load,
    read_pilot_samples,
    saved_load,
)
from tessy.plan.report import print_plan
from tessy.runtime.summary import wall_seconds
from tessy.storage import jsonl
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.problems import load_run_problems
from tessy.synthesis.run import run_samples
from tessy.synthesis.session import SessionResult
from tessy.synthesis.setup import models

EXIT_TOO_FEW = 1


def plan(config: PlanConfig) -> int:
    """Run the missing part of the pilot and print an estimate for the whole file.

    The pilot's samples are ordinary rows of the run directory; ``synthesize`` with the same options
    continues the run.

    Returns:
        The exit code: 0; 1 if too few samples finished for an interval; or that of the pilot.

    Raises:
        InputError: Options, problems, models or the run directory are unusable; nothing started.
        EngineError: The servers failed permanently; finished samples are kept.
    """
    loaded = load_run_problems(config)
    console = Console()
    problems = loaded.problems[: config.limit]
    rounds = config.samples_per_problem
    wanted = {(problem.id, sample) for sample in range(rounds) for problem in problems}
    paths = RunPaths(config.out)
    chosen = draw(problems, rounds, config.pilot, config.seed)
    options = {name: getattr(config, name) for name in SynthesisOptions.model_fields}
    # Budgets do not limit the pilot; the plan compares the whole run with them.
    without_budgets = options | {"budget_hours": None, "budget_tokens": None}
    run = SynthesizeConfig(**without_budgets, out=config.out)
    session = run_samples(run, loaded, chosen=chosen)
    if session.exit_code:
        return session.exit_code
    samples = read_pilot_samples(paths, wanted)
    plan_json = config.out / "plan.json"
    scope = _scope(wanted, samples)
    inputs = PlanInputs(
        samples=samples,
        scope=scope,
        slots=session.slots or 1,
        load=_load(session, samples, plan_json),
        wall_seconds=wall_seconds(paths.summary),
        journal_bytes=paths.journal.stat().st_size,
        counted=_counted(session),
        drawn={s.key for s in samples} == draw(problems, rounds, len(samples), config.seed),
    )
    estimate = make_plan(inputs)
    if estimate is None:
        console.print(_too_few(samples), soft_wrap=True, highlight=False)
        return EXIT_TOO_FEW
    jsonl.write_json(plan_json, estimate.to_json())
    names = {author: model.model for author, model in models(config).items()}
    print_plan(estimate, config, names, console)
    closing = f"The figures as JSON: {plan_json}."
    if scope.samples:
        closing += " `tessy synthesize` with the same options continues the run."
    console.print(closing, soft_wrap=True, highlight=False, markup=False)
    return 0


def _counted(session: SessionResult) -> dict[Author, tuple[int, int]]:
    progress = session.progress
    if progress is None:
        return {}
    return {a: (tokens, progress.generated_by(a)) for a, tokens in session.counted.items()}


def _scope(wanted: set[Key], samples: list[PilotSample]) -> Scope:
    left = wanted - {sample.key for sample in samples}
    unseen = {problem for problem, _ in wanted} - {sample.problem for sample in samples}
    return Scope(len(left), len({problem for problem, _ in left}), len(unseen))


def _load(session: SessionResult, samples: list[PilotSample], plan_json: Path) -> Load | None:
    """Return the load of the servers, if it was measured on at least half of the samples."""
    measured = measured_load(session.progress, samples) if session.progress else None
    for load in (measured, saved_load(plan_json)):
        if load is not None and 2 * load.samples >= len(samples):
            return load
    return None


def _too_few(samples: list[PilotSample]) -> str:
    reasons = Counter(sample.reason for sample in samples if sample.reason is not None)
    failed = tally(reason_labels(dict(reasons.most_common())))
    return (
        f"Only {len(samples) - reasons.total()} of {counted(len(samples), 'sample')} finished "
        f"(failed: {failed or 'none'}), but an interval needs {MIN_UNITS}. Run `tessy doctor` with "
        "the same options to find the cause, or pass a larger --pilot, which keeps these samples."
    )
