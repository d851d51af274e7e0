"""One session of a run: the samples that this process generates."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile

from rich.console import Console

from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.errors import EngineMisconfigured, reason_label
from tessy.core.records import Author, Failure, Key
from tessy.runtime.budget import BudgetTracker
from tessy.runtime.progress import Progress
from tessy.runtime.runner import JobList, JobResult, run_jobs
from tessy.runtime.stop import Draining, Stop, interruptible
from tessy.runtime.throughput import ThroughputMonitor
from tessy.storage.journal import InFlight, Journal
from tessy.storage.problems import LoadedProblems
from tessy.storage.run_dir import FailureSummary, Run
from tessy.synthesis.admission import SampleGate, make_admission
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.output import SAMPLES, RunOutput
from tessy.synthesis.restyling.estimate import expected_cost
from tessy.synthesis.resume import load_progress, spent_before
from tessy.synthesis.sample import SampleJob, SampleRunner
from tessy.synthesis.setup import (
    LoadedModels,
    SynthesisResources,
    models,
    open_resources,
)
from tessy.synthesis.strategies.registry import all_strategies
from tessy.synthesis.token_counts import lengths_of_rows

RunConfig = SynthesizeConfig | SampleConfig

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SessionResult:
    """How one session of a run ended.

    ``progress`` is None if no sample was missing. ``counted`` has the tokens that the servers of a
    role generated in this session by their own count, if no other client used them. ``slots`` is
    the number of samples of the whole file that would be in flight at a time, if samples were
    chosen and all of them have rows.
    """

    exit_code: int = 0
    progress: ThroughputMonitor | None = None
    counted: dict[Author, int] = field(default_factory=dict)
    slots: int | None = None


@dataclass
class SynthesisSession:
    """The part of a run that this process generates."""

    config: RunConfig
    loaded: LoadedProblems
    run: Run[Key]
    console: Console
    tracker: BudgetTracker
    chosen: Collection[Key] | None = None
    output: RunOutput = SAMPLES
    result: SessionResult = field(default_factory=SessionResult)
    _short_context: bool = field(default=False, init=False)  # whether it was reported
    _resumed: bool = field(init=False)

    def __post_init__(self) -> None:
        self._resumed = self.run.paths.has_started()

    def missing(self) -> list[SampleJob]:
        """Return the requested samples that have no row yet."""
        skipped = self._skipped_failures()
        done = self.run.done
        return [j for j in self._wanted() if j.key not in done and j.key not in skipped]

    def load_spending(self) -> None:
        """Load the usage of earlier sessions, if there is a budget."""
        if self.tracker.limited:
            with Journal(self.run.paths.journal) as journal:
                in_flight = self._in_flight(journal).values()
                self.tracker.before = spent_before(self.run.paths, in_flight)
            self.tracker.empty = self.tracker.exceeded(0)

    async def execute(self, missing: list[SampleJob], parts: LoadedModels) -> int | None:
        """Generate the missing samples; return how many a stop left in flight, or None."""
        wanted = self._wanted()
        skipped = self._skipped_failures()
        state = self.result.progress = ThroughputMonitor(
            len(wanted),
            clock=time.monotonic,
            done=sum(job.key in self.run.done for job in wanted),
            reasons=Counter(skipped[job.key].reason for job in wanted if job.key in skipped),
            authors=tuple(models(self.config)),
        )
        async with (
            interruptible(lambda: self.tracker.exceeded(state.generated) is not None) as stop,
            Progress(state, self.console),
        ):
            with suppress(Draining):  # while the servers were not ready
                async with open_resources(
                    self.config, parts, state.waiting, stop.check
                ) as resources:
                    pools = resources.pools.values()
                    state.servers_down = lambda: [down for p in pools if (down := p.down())]
                    _describe(resources)
                    await self._state_cost(resources.context)
                    self._check_ids(resources.context)
                    with Journal(self.run.paths.journal) as journal:
                        for pool in pools:
                            await pool.start_counting()
                        await self._make(missing, resources, journal, state, stop)
                        for author, pool in resources.pools.items():
                            tokens = await pool.counted_tokens()
                            if tokens is not None:
                                self.result.counted[author] = tokens
            if not stop.interrupted:
                if not state.left:
                    return None
                self.tracker.empty = self.tracker.exceeded(state.generated)
            return state.in_flight

    async def _state_cost(self, context: SynthesisContext) -> None:
        """Log the expected cost of a sample at the start of a run, if the strategy reads traces."""
        if all_strategies()[context.strategy].reads_traces and not self._resumed:
            predictor = context.predictors["student"]
            problems = self.loaded.problems
            cost = await expected_cost(problems, predictor, context.cut, context.candidates)
            log.warning("%s", cost)

    def _check_ids(self, context: SynthesisContext) -> None:
        """Refuse to add rows without token ids to rows with them; report the reverse."""
        row = self.run.first_row()
        if row is None or (row.get("student_ids") is not None) == context.writes_ids:
            return
        if not context.writes_ids and context.keep_ids:
            raise EngineMisconfigured(
                f"the rows of {self.run.paths.directory} hold the student's token ids, but its "
                "server now takes or returns only text, so new rows would hold none; use a server "
                "like that of the earlier rows, or choose another --out"
            )
        log.warning(
            "the rows so far hold no token ids of the student; new rows hold them, because its "
            "server now returns ids"
        )

    def _skipped_failures(self) -> Mapping[Key, FailureSummary]:
        return {} if self.config.retry_failed else self.run.failed

    def _wanted(self) -> list[SampleJob]:
        return [job for job in self._all() if self.chosen is None or job.key in self.chosen]

    def _all(self) -> Iterator[SampleJob]:
        """Return every requested sample, with one pass over the problems per sample index."""
        problems = self.loaded.problems[: self.config.limit]
        rounds = range(self.config.samples_per_problem)
        return (SampleJob(problem, sample) for sample in rounds for problem in problems)

    async def _make(
        self,
        missing: list[SampleJob],
        resources: SynthesisResources,
        journal: Journal,
        state: ThroughputMonitor,
        stop: Stop,
    ) -> None:
        in_flight = self._in_flight(journal)
        # Samples left in flight by an earlier process come first.
        jobs = sorted(missing, key=lambda job: job.key not in in_flight)
        open_again = self.run.failed if self.config.retry_failed else {}
        context = resources.context
        if self.output.strategy is not None:
            context = replace(context, strategy=self.output.strategy)
        runner = SampleRunner(
            context=context,
            strategy=all_strategies()[context.strategy].make,
            journal=journal,
            progress=state,
            attempts=self.config.attempts,
            checkpoint=stop.check,
            in_flight=in_flight,
            earlier={key: failure.attempts for key, failure in open_again.items()},
        )

        async def finish(result: JobResult) -> JobResult:
            self._report_short_context(result, context)
            state.complete += 1
            try:
                return await self.output.finish(result, stop.check)
            finally:
                state.complete -= 1

        admission = make_admission(self.config, resources)
        resources.move_listeners.append(admission.moved)
        await run_jobs(
            JobList(jobs),
            runner.make,
            sink=self.run,
            admission=SampleGate(admission, resources),
            stop=stop,
            finish=finish,
            written=runner.written,
        )
        await journal.flush()
        if self.chosen is not None and not stop.requested:
            ended = self.run.done | self.run.failed.keys()
            remaining = (job for job in self._all() if job.key not in ended)
            lengths = lengths_of_rows(self.run.paths)
            gate = SampleGate(make_admission(self.config, resources, lengths), resources)
            self.result.slots = sum(1 for _ in takewhile(gate.try_admit, remaining))

    def _report_short_context(self, result: JobResult, context: SynthesisContext) -> None:
        """Warn once if the context was too short for the token limits of a failed sample."""
        failure = result.failure
        if self._short_context or not isinstance(failure, Failure) or failure.reason != "budget":
            return
        tokens = context.backends[context.answering].context_tokens
        limits = context.thinking_tokens + context.answer_tokens
        thinking = failure.tokens.student + failure.tokens.teacher
        at_limit = thinking >= context.thinking_tokens or failure.tokens.answer >= (
            context.answer_tokens
        )
        if tokens is None or tokens >= limits or at_limit:
            return
        self._short_context = True
        log.warning(
            "the %s's context of %d tokens is shorter than thinking_tokens + answer_tokens (%d): "
            "longer samples fail (%s), %s/%d is the first",
            context.answering,
            tokens,
            limits,
            reason_label("budget"),
            failure.id,
            failure.sample,
        )

    def _in_flight(self, journal: Journal) -> dict[Key, InFlight]:
        """Return the samples in the journal that have no row yet."""
        in_flight = journal.load()
        problems = {problem.id: problem for problem in self.loaded.problems}
        for key in list(in_flight):
            failure = self.run.failed.get(key)
            # A crash between a row and its journal entry leaves the entry behind.
            state = load_progress(in_flight[key])
            attempt = state.attempt if state else 0
            ended = failure is not None and attempt <= failure.attempts
            problem = problems.get(key[0])
            if state is not None and problem is not None and state.is_of_another(problem):
                log.warning("%s: the problem has changed; the sample in flight starts over", key[0])
                ended = True
            if key in self.run.done or ended:
                del in_flight[key]
                journal.forget(key)
        for key in (*self.run.done, *self.run.failed):
            if key not in in_flight and journal.attempts(key):
                journal.forget(key)  # only the number of attempts was kept
        return in_flight


def _describe(resources: SynthesisResources) -> None:
    for author, info in resources.infos.items():
        log.info("%s: %s (%s)", author, info.model, info.mode)
        for note in info.notes:
            log.warning("%s: %s", author, note)
