"""``tessy synthesize`` and ``tessy sample``: questions in, a run directory out.

Both can be stopped and go on at any time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from textwrap import shorten
from typing import Any

from rich.console import Console
from rich.text import Text

from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.errors import InputError, TessyError
from tessy.core.formatting import tally
from tessy.core.records import Author, Key
from tessy.runtime.admission import DEFAULT_CONCURRENCY, Claim, KvAdmission, KvGate
from tessy.runtime.budget import Budget
from tessy.runtime.log import log_file, software
from tessy.runtime.progress import Progress, ProgressState, SteadyConsole
from tessy.runtime.runner import Stop, interruptible, run_all
from tessy.runtime.summary import summarise
from tessy.runtime.terminal import summary_table, visible
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically
from tessy.storage.journal import InFlight, Journal
from tessy.storage.problems import LoadedProblems
from tessy.storage.run_dir import FailureSummary, Run, iter_failures, iter_trajectories
from tessy.synthesis.data_config import data_config, data_names
from tessy.synthesis.problems import as_asked, load_questions
from tessy.synthesis.sample import SampleJob, SampleRunner
from tessy.synthesis.setup import (
    FORMAT_NAMES,
    LoadedModels,
    SynthesisResources,
    check_servers,
    formats,
    load_models,
    load_renderers,
    models,
    open_resources,
)
from tessy.synthesis.strategies.registry import all_strategies
from tessy.synthesis.usage import BudgetTracker, spent_before, wall_seconds

EXIT_NOTHING_FINISHED = 1
EXIT_BUDGET = 4
EXIT_INTERRUPTED = 130

RunConfig = SynthesizeConfig | SampleConfig
_DATA_NAMES = data_names(SynthesizeConfig, SampleConfig) | FORMAT_NAMES | {"command"}

log = logging.getLogger(__name__)


def synthesize(config: SynthesizeConfig) -> int:
    """Make every sample the options ask for.

    Returns:
        The exit code: 0, 130 if Ctrl-C ended the run in good order, 4 if its budget did, or 1 if
        every sample of the run has failed.

    Raises:
        InputError: Options, questions, models or the run directory are unusable; nothing started.
        EngineError: The servers are gone for good; what was made is kept.
    """
    return synthesize_problems(config, load_questions(config))


def sample(config: SampleConfig) -> int:
    """Make every response of one model that the options ask for.

    Returns and raises what :func:`synthesize` does.
    """
    return synthesize_problems(config, load_questions(config))


@dataclass(frozen=True, slots=True)
class Pilot:
    """A few samples of a run, made to learn from.

    Attributes:
        chosen: The samples.
        watch: Makes what counts their progress; takes what :class:`ProgressState` does.
        measure: Given an empty gate as the whole run would have it, and what decides there, once
            all chosen samples have their rows.
    """

    chosen: frozenset[Key]
    watch: Callable[..., ProgressState]
    measure: Callable[[KvAdmission, KvGate[SampleJob]], None]


def synthesize_problems(
    config: RunConfig,
    loaded: LoadedProblems,
    console: Console | None = None,
    pilot: Pilot | None = None,
) -> int:
    """The same as :func:`synthesize` or :func:`sample` with questions that are loaded already.

    Args:
        config: The run's options; ``problems`` is not read.
        loaded: The questions.
        console: Where progress and the closing table go; standard error by default.
        pilot: Make these samples only.
    """
    console = console or SteadyConsole(stderr=True)
    check_servers(config)
    problems = [as_asked(config, problem) for problem in loaded.problems]
    loaded = replace(loaded, problems=tuple(problems))
    renderers = load_renderers(config)
    with Run.open(
        config.out,
        config=config.model_dump(mode="json"),
        data_config=_data_config(config) | formats(renderers),
        known=_DATA_NAMES,
        software=software(),
        fresh=config.fresh,
    ) as run:
        purse = BudgetTracker(_budget(config))
        with log_file(run.paths.log):
            if loaded.faults:
                _set_aside(run, loaded)
            synthesis = _SynthesisRun(config, loaded, run, console, purse, pilot)
            left: int | None = None
            try:
                missing = synthesis.missing()
                if missing:
                    synthesis.count_the_past()
                if (missing or pilot) and not purse.empty:
                    left = asyncio.run(synthesis.go(missing, load_models(config, renderers)))
            except TessyError:
                with suppress(TessyError):  # the first error is the one to show
                    _summarise(run, purse.seconds)
                raise
            summary = _summarise(run, purse.seconds)
        console.print(summary_table(summary))
    return _ended(run, purse, left, summary, console)


def _ended(
    run: Run, purse: BudgetTracker, left: int | None, summary: Mapping[str, Any], console: Console
) -> int:
    """Say how the run ended; the exit code.

    Args:
        run: The run.
        purse: What it may use.
        left: Samples left in flight by a stop; None: nothing stopped it in this session.
        summary: Its rows, added up.
        console: Where to.
    """
    if left is None and not purse.empty:
        if run.done or not run.failed:
            return 0
        failures = summary["failures"]
        reasons = tally(failures)
        often = max(failures, key=failures.get)
        last = [failure.detail for failure in run.failed.values() if failure.reason == often][-1]
        message = (
            f"None of {len(run.failed)} samples could be finished ({reasons}); "
            f"{run.paths.failures} has their texts so far, and `tessy doctor` with the same "
            "options makes one sample and says what to mend\n"
            f"The last {often}: {shorten(last, 300, placeholder=' …')}"
        )
        console.print(Text(visible(message)), soft_wrap=True)
        return EXIT_NOTHING_FINISHED
    kept = f"; {left} samples in flight are kept" if left else ""
    by, command = "", "The same command"
    if purse.empty:
        by, command = f" by {purse.empty}", "The same command with a larger budget"
    message = f"Stopped in good order{by}{kept}. {command} goes on from here."
    console.print(message, soft_wrap=True)  # one line, also where the output is no terminal
    return EXIT_BUDGET if purse.empty else EXIT_INTERRUPTED


def _budget(config: RunConfig) -> Budget:
    if isinstance(config, SampleConfig):
        return Budget()
    return Budget(config.budget_hours, config.budget_tokens)


def _data_config(config: RunConfig) -> dict[str, Any]:
    """What rows depend on; a run of `sample` says so, for `annotate` takes no other."""
    command = {"command": "sample"} if isinstance(config, SampleConfig) else {}
    return command | data_config(config)


@dataclass
class _SynthesisRun:
    """One process's part in a run.

    Attributes:
        config: The run's options.
        loaded: The questions.
        run: The run directory.
        console: Where progress goes.
        purse: What the run may use, and what is used.
        pilot: The samples to make, if not all.
    """

    config: RunConfig
    loaded: LoadedProblems
    run: Run
    console: Console
    purse: BudgetTracker
    pilot: Pilot | None = None

    def missing(self) -> list[SampleJob]:
        """Samples the options ask for that have no row yet."""
        given_up = self._given_up()
        done = self.run.done
        return [j for j in self._wanted() if j.key not in done and j.key not in given_up]

    def count_the_past(self) -> None:
        """Have the purse know what earlier processes used, if that matters."""
        if self.purse.budget.limited:
            with Journal(self.run.paths.journal) as journal:
                self.purse.before = spent_before(self.run.paths, self._in_flight(journal))
            self.purse.empty = self.purse.exceeded(0)

    async def go(self, missing: list[SampleJob], parts: LoadedModels) -> int | None:
        """Make what is missing; None once it is there, or the samples left in flight by a stop."""
        wanted = self._wanted()
        failed = sum(job.key in self._given_up() for job in wanted)
        state = (self.pilot.watch if self.pilot else ProgressState)(
            len(wanted),
            now=time.monotonic(),
            done=len(wanted) - len(missing) - failed,
            failed=failed,
            authors=tuple(models(self.config)),
        )
        async with (
            interruptible(lambda: self.purse.exceeded(state.generated) is not None) as stop,
            Progress(state, self.console),
            open_resources(self.config, parts, state.waiting, stop.check) as table,
        ):
            _describe(table)
            with Journal(self.run.paths.journal) as journal:
                await self._make(missing, table, journal, state, stop)
            if stop.asked:
                return state.in_flight
            if not state.left:
                return None
            self.purse.empty = self.purse.exceeded(state.generated)
            return state.in_flight

    def _given_up(self) -> Mapping[Key, FailureSummary]:
        return {} if self.config.retry_failed else self.run.failed

    def _wanted(self) -> list[SampleJob]:
        """Every sample the options ask for: one round over the questions per sample."""
        problems = self.loaded.problems[: self.config.limit]
        rounds = range(self.config.samples_per_problem)
        wanted = (SampleJob(problem, sample) for sample in rounds for problem in problems)
        return [job for job in wanted if self.pilot is None or job.key in self.pilot.chosen]

    async def _make(
        self,
        missing: list[SampleJob],
        table: SynthesisResources,
        journal: Journal,
        state: ProgressState,
        stop: Stop,
    ) -> None:
        """Make what is missing until it is there, or until somebody asks to stop."""
        in_flight = self._in_flight(journal)
        # Those that an earlier process left in flight come first.
        jobs = sorted(missing, key=lambda job: job.key not in in_flight)
        open_again = self.run.failed if self.config.retry_failed else {}
        workshop = SampleRunner(
            context=table.context,
            strategy=all_strategies()[table.context.strategy].make,
            run=self.run,
            journal=journal,
            progress=state,
            attempts=self.config.attempts,
            checkpoint=stop.check,
            in_flight=in_flight,
            earlier={key: failure.attempts for key, failure in open_again.items()},
        )
        admission, gate = self._gate(table)
        table.follow(admission.moved)
        await run_all(jobs, workshop.make, admission=gate, stop=stop)
        await journal.flush()
        if self.pilot and not stop.requested:
            self.pilot.measure(*self._gate(table))

    def _gate(self, table: SynthesisResources) -> tuple[KvAdmission, KvGate[SampleJob]]:
        admission = self._admission(table)
        claim, homes = partial(_claim, table=table), partial(_homes, table=table)
        return admission, KvGate(admission, claim, partial(homes, admission=admission))

    def _in_flight(self, journal: Journal) -> dict[Key, InFlight]:
        """What an earlier process left in the journal and has no row for yet."""
        found = journal.load()
        for key in list(found):
            failure = self.run.failed.get(key)
            # A crash between a row and its journal entry leaves the entry behind.
            ended = failure is not None and _attempt(found[key]) <= failure.attempts
            if key in self.run.done or ended:
                del found[key]
                journal.forget(key)
        for key in (*self.run.done, *self.run.failed):
            if key not in found and journal.attempts(key):
                journal.forget(key)  # counted, but nothing else was kept
        return found

    def _admission(self, table: SynthesisResources) -> KvAdmission:
        guess = self.config.thinking_tokens // 2
        for backend in table.context.backends.values():
            guess = min(guess, (backend.context_tokens or guess * 2) // 2)
        # By server: one that plays both roles has one cache for both.
        capacities = {
            name: tokens
            for pool in table.pools.values()
            for name, tokens in pool.capacities.items()
        }
        concurrency = self.config.concurrency
        if concurrency is None and any(i.mode == "local" for i in table.infos.values()):
            concurrency = DEFAULT_CONCURRENCY  # a model in this process decodes no more at a time
        admission = KvAdmission(capacities, first_guess_tokens=guess, concurrency=concurrency)
        log.info("%s", admission.explain())
        return admission


def _claim(job: SampleJob, table: SynthesisResources) -> Claim:
    """What a sample will take up: asked for once, when its turn comes."""
    prompts: dict[Author, int] = {}
    for author, backend in table.context.backends.items():
        try:
            prompts[author] = len(backend.renderer.prompt_ids(job.problem.messages))
        except InputError:
            prompts[author] = 0  # the sample will fail with this error
    return Claim(job.name, prompts)


def _homes(job: SampleJob, table: SynthesisResources, admission: KvAdmission) -> dict[Author, str]:
    """The replica of each model that a sample that has not begun would be on now."""
    homes: dict[Author, str] = {}
    for author, pool in table.pools.items():
        pool.release(job.name)  # it holds nothing yet, so another replica may suit it better now
        homes[author] = pool.assign(job.name)
        admission.learn(homes[author], pool.capacities[homes[author]])
    return homes


def _attempt(left: InFlight) -> int:
    return int(json.loads(left.state)["attempt"]) if left.state else 0


def _describe(table: SynthesisResources) -> None:
    """What the servers said of themselves, for the log."""
    for author, info in table.infos.items():
        log.info("%s: %s (%s)", author, info.model, info.mode)
        for note in info.notes:
            log.warning("%s: %s", author, note)
    context = table.context
    tokens = context.backends[context.answering].context_tokens
    wanted = context.thinking_tokens + context.answer_tokens
    if tokens is not None and tokens < wanted:
        log.warning(
            "the %s's context of %d tokens is shorter than thinking_tokens + answer_tokens (%d): "
            "longer samples will fail with reason budget",
            context.answering,
            tokens,
            wanted,
        )


def _set_aside(run: Run, loaded: LoadedProblems) -> None:
    """Write the unusable rows of the input down, with their reasons."""
    path = run.paths.directory / "bad_rows.jsonl"
    lines = (
        {"file": f.file, "line": f.line, "field": f.field, "message": f.message}
        for f in loaded.faults
    )
    write_atomically(path, b"".join(map(jsonl.dump_line, lines)))
    log.warning("%d bad rows were set aside: %s", len(loaded.faults), path)


def _summarise(run: Run, seconds: float) -> dict[str, Any]:
    """Add up every row; the wall clock is that of all sessions."""
    directory = run.paths.directory
    seconds += wall_seconds(run.paths.summary)
    summary = summarise(iter_trajectories(directory), iter_failures(directory), seconds)
    run.write_summary(summary)
    return summary
