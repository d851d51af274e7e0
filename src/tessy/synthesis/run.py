"""``tessy synthesize`` and ``tessy sample``: from problems to a run directory."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from textwrap import shorten
from typing import Any

from rich.console import Console
from rich.text import Text

from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.errors import EngineMisconfigured, TessyError, reason_label, reason_labels
from tessy.core.formatting import tally
from tessy.core.records import Author, Key
from tessy.inference.http.address import without_credentials
from tessy.runtime.budget import BudgetTracker
from tessy.runtime.log import log_file, software
from tessy.runtime.progress import Progress, SteadyConsole
from tessy.runtime.runner import JobList, run_jobs
from tessy.runtime.stop import Draining, Stop, interruptible
from tessy.runtime.summary import summarize, wall_seconds
from tessy.runtime.terminal import summary_table, visible
from tessy.runtime.throughput import ThroughputMonitor
from tessy.storage import jsonl
from tessy.storage.atomic import write_atomically
from tessy.storage.journal import InFlight, Journal
from tessy.storage.problems import LoadedProblems
from tessy.storage.run_config import prompt_date
from tessy.storage.run_dir import FailureSummary, Run
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import (
    TRAJECTORIES,
    iter_failures,
    iter_superseded,
    iter_trajectories,
    read_config,
)
from tessy.synthesis.admission import SampleGate, make_admission
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.data_config import data_config, data_names
from tessy.synthesis.problems import (
    ChangedProblems,
    check_prompts,
    load_run_problems,
    with_system_prompt,
)
from tessy.synthesis.resume import load_progress, spent_before
from tessy.synthesis.sample import SampleJob, SampleRunner
from tessy.synthesis.setup import (
    FORMAT_NAMES,
    LoadedModels,
    SynthesisResources,
    check_folders,
    check_servers,
    formats,
    load_models,
    load_renderers,
    models,
    open_resources,
)
from tessy.synthesis.strategies.registry import all_strategies
from tessy.synthesis.token_counts import lengths_of_rows

EXIT_NOTHING_FINISHED = 1
EXIT_BUDGET = 4
EXIT_INTERRUPTED = 130

RunConfig = SynthesizeConfig | SampleConfig
_DATA_NAMES = data_names(SynthesizeConfig, SampleConfig) | FORMAT_NAMES | {"command"}

log = logging.getLogger(__name__)


def synthesize(config: SynthesizeConfig) -> int:
    """Generate every requested sample; can be interrupted and resumed at any time.

    Returns:
        The exit code: 0; 130 if Ctrl-C stopped the run gracefully; 4 if its budget did; 1 if every
        sample of the run failed.

    Raises:
        InputError: Options, problems, models or the run directory are unusable; nothing started.
        EngineError: The servers failed permanently; finished samples are kept.
    """
    check_run(config)
    return run_samples(config, load_run_problems(config)).exit_code


def sample(config: SampleConfig) -> int:
    """Generate every requested response of a model; returns and raises as :func:`synthesize`."""
    check_run(config)
    return run_samples(config, load_run_problems(config)).exit_code


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


def check_run(config: RunConfig) -> dict[str, Any]:
    """Refuse unusable options and run directories, before anything is loaded.

    Returns the recorded options of a run that will be resumed, else an empty dict.
    """
    config = _dated(config)
    check_servers(config)
    check_folders(config)
    return Run.check(
        config.out,
        TRAJECTORIES,
        data_config=_data(config),
        known=_DATA_NAMES,
        later=FORMAT_NAMES,
        fresh=config.fresh,
    )


def _dated(config: RunConfig) -> RunConfig:
    """Return the options with the date of the run in ``out``, or of today, if they have none."""
    if config.date is not None:
        return config
    date = None
    if RunPaths(config.out).config.exists() and not config.fresh:
        date = prompt_date(read_config(config.out))
    return config.model_copy(update={"date": date or datetime.date.today()})


def _data(config: RunConfig) -> dict[str, Any]:
    # `annotate` requires a run of `sample`, which is therefore recorded.
    command = {"command": "sample"} if isinstance(config, SampleConfig) else {}
    return command | data_config(config)


def run_samples(
    config: RunConfig,
    loaded: LoadedProblems,
    console: Console | None = None,
    chosen: Collection[Key] | None = None,
) -> SessionResult:
    """Run :func:`synthesize` or :func:`sample` with problems that are already loaded.

    Args:
        config: Options of the run; ``problems`` is not read.
        loaded: The problems.
        console: Receives progress and the final table; standard error by default.
        chosen: Generate only samples with these keys; None: all.
    """
    console = console or SteadyConsole(stderr=True)
    config = _dated(config)
    recorded = check_run(config)
    problems = [with_system_prompt(config, problem) for problem in loaded.problems]
    loaded = replace(loaded, problems=tuple(problems))
    data = _data(config)
    # Tokenizers load slowly: a run without missing samples needs none.
    known = {name: recorded[name] for name in recorded.keys() & FORMAT_NAMES}
    renderers = {} if known else load_renderers(config)
    changed = ChangedProblems(loaded)
    with Run.open(
        config.out,
        TRAJECTORIES,
        config=without_credentials(config.model_dump(mode="json")),
        data_config=data | (known or formats(renderers)),
        known=_DATA_NAMES,
        software=software(),
        fresh=config.fresh,
        seen=changed.look_at,
    ) as run:
        changed.refuse(run.paths.directory)
        tracker = BudgetTracker()
        if isinstance(config, SynthesizeConfig):
            tracker = BudgetTracker(config.budget_hours, config.budget_tokens)
        with log_file(run.paths.log):
            if loaded.faults:
                path = run.paths.directory / "bad_rows.jsonl"
                write_atomically(path, b"".join(jsonl.dump_line(asdict(f)) for f in loaded.faults))
                log.warning("skipped %d bad rows: %s", len(loaded.faults), path)
            synthesis = _SynthesisRun(config, loaded, run, console, tracker, chosen)
            left: int | None = None
            try:
                missing = synthesis.missing()
                if missing:
                    synthesis.load_spending()
                if (missing or chosen is not None) and not tracker.empty:
                    if known:
                        renderers = load_renderers(config)
                        run.check_same(data | formats(renderers))
                    if not config.skip_bad_rows:
                        check_prompts(loaded, [renderers[author] for author in models(config)])
                    left = asyncio.run(synthesis.execute(missing, load_models(config, renderers)))
            except TessyError:
                with suppress(TessyError):  # the first error is the one to show
                    _summarise(run, tracker.seconds)
                raise
            summary = _summarise(run, tracker.seconds, synthesis.result)
        console.print(summary_table(summary))
    synthesis.result.exit_code = _report_end(run, tracker, left, summary, console)
    return synthesis.result


def _report_end(
    run: Run[Key],
    tracker: BudgetTracker,
    left: int | None,
    summary: Mapping[str, Any],
    console: Console,
) -> int:
    """Print how the run ended, with samples ``left`` in flight by a stop; return the exit code."""
    if left is None and not tracker.empty:
        if run.done or not run.failed:
            return 0
        failures = summary["failures"]
        reasons = tally(reason_labels(failures))
        common = max(failures, key=failures.get)
        last = [failure.detail for failure in run.failed.values() if failure.reason == common][-1]
        message = (
            f"None of {len(run.failed)} samples could be finished ({reasons}); "
            f"{run.paths.failures} has their texts so far, and `tessy doctor` with the same "
            "options generates one sample and explains what to fix\n"
            f"The last one ({reason_label(common)}): {shorten(last, 300, placeholder=' …')}"
        )
        console.print(Text(visible(message)), soft_wrap=True)
        return EXIT_NOTHING_FINISHED
    kept = f"; {left} samples in flight are kept" if left else ""
    by, command = "", "The same command"
    if tracker.empty:
        by, command = f" by {tracker.empty}", "The same command with a larger budget"
    message = f"Stopped gracefully{by}{kept}. {command} resumes it."
    console.print(message, soft_wrap=True)  # one line, also where the output is no terminal
    return EXIT_BUDGET if tracker.empty else EXIT_INTERRUPTED


@dataclass
class _SynthesisRun:
    """The part of a run that this process generates."""

    config: RunConfig
    loaded: LoadedProblems
    run: Run[Key]
    console: Console
    tracker: BudgetTracker
    chosen: Collection[Key] | None = None
    result: SessionResult = field(default_factory=SessionResult)

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
                    _describe(resources)
                    self._check_ids(resources.context)
                    with Journal(self.run.paths.journal) as journal:
                        for pool in resources.pools.values():
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
        runner = SampleRunner(
            context=resources.context,
            strategy=all_strategies()[resources.context.strategy].make,
            journal=journal,
            progress=state,
            attempts=self.config.attempts,
            checkpoint=stop.check,
            in_flight=in_flight,
            earlier={key: failure.attempts for key, failure in open_again.items()},
        )
        admission = make_admission(self.config, resources)
        resources.move_listeners.append(admission.moved)
        await run_jobs(
            JobList(jobs),
            runner.make,
            sink=self.run,
            admission=SampleGate(admission, resources),
            stop=stop,
            written=runner.written,
        )
        await journal.flush()
        if self.chosen is not None and not stop.requested:
            ended = self.run.done | self.run.failed.keys()
            remaining = (job for job in self._all() if job.key not in ended)
            lengths = lengths_of_rows(self.run.paths)
            gate = SampleGate(make_admission(self.config, resources, lengths), resources)
            self.result.slots = sum(1 for _ in takewhile(gate.try_admit, remaining))

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
    context = resources.context
    tokens = context.backends[context.answering].context_tokens
    wanted = context.thinking_tokens + context.answer_tokens
    if tokens is not None and tokens < wanted:
        log.warning(
            "the %s's context of %d tokens is shorter than thinking_tokens + answer_tokens (%d): "
            "longer samples will fail (%s)",
            context.answering,
            tokens,
            wanted,
            reason_label("budget"),
        )


def _summarise(
    run: Run[Key], seconds: float, session: SessionResult | None = None
) -> dict[str, Any]:
    """Summarise all rows; the wall clock covers all sessions, the servers' counts this one."""
    directory = run.paths.directory
    seconds += wall_seconds(run.paths.summary)
    summary = summarize(
        iter_trajectories(directory), iter_failures(directory), iter_superseded(directory), seconds
    )
    if session is not None and session.progress is not None and session.counted:
        summary["session"] = {
            "generated": {a: session.progress.generated_by(a) for a in session.counted},
            "servers": session.counted,
        }
    run.write_summary(summary)
    return summary
