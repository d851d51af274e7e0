"""The cooperation as a client, driven through its public parts, in a steady window."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.measurement import ClientCounters, Measured, measure
from benchmarks.scheduled_predictor import Oracle, ScheduleModel
from benchmarks.server_access import SIDES, Servers
from benchmarks.virtual_clock import HeldSink, QueuedPredictor
from benchmarks.workload import Workload, in_flight, problems, start
from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.classifier.predictor import MAX_WAIT_MS, TokenClassifierPredictor
from tessy.config.base import RoleConfig
from tessy.config.synthesis import SynthesizeConfig
from tessy.core.records import Author, Key
from tessy.inference.base import Chunk, ChunkSink, Engine, Request
from tessy.runtime.admission import Slots
from tessy.runtime.progress import ProgressState
from tessy.runtime.runner import JobList, run_jobs
from tessy.runtime.stop import Stop
from tessy.storage.journal import InFlight, Journal
from tessy.storage.run_dir import Run
from tessy.storage.run_reader import TRAJECTORIES
from tessy.synthesis.sample import SampleJob, SampleRunner
from tessy.synthesis.setup import LoadedModels, SynthesisResources, open_resources
from tessy.synthesis.strategies.tessy import tessy
from tessy.tokenization.renderer import Renderer

Predictor = Literal["queue", "oracle"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of a measurement.

    Attributes:
        concurrency: Samples in flight.
        warm_up_seconds: Before the window.
        seconds: Length of the window; like the warm-up it does not grow with ``slow_down``.
        slow_down: Factor on the servers' times; the predictor's delay and how long it waits for
            company are stretched with it.
        predictor: ``queue``: the schedule behind a predictor's queue; ``oracle``: at once.
        predictor_delay_seconds: What a batch takes, before it is slowed down.
        virtual: On a virtual clock; then the queue is the event loop's.
        workload: What samples are like.
        draw_seed: Of what models write that draw by seeds.
        draft_tokens: Tokens of a draft; None: one stream per span.
        count_arrivals: Tokens are counted as they reach the client, which takes 2 % of its time.
    """

    concurrency: int
    warm_up_seconds: float = 10.0
    seconds: float = 60.0
    slow_down: float = 1.0
    predictor: Predictor = "queue"
    predictor_delay_seconds: float = 0.003
    virtual: bool = False
    workload: Workload = field(default_factory=Workload)
    draw_seed: int = 0
    draft_tokens: dict[Author, int] | None = None
    count_arrivals: bool = True


class CountingProgress(ProgressState):
    """Progress counters that count for a measurement."""

    def __init__(self, gauge: ClientCounters) -> None:
        """Count into ``gauge``."""
        super().__init__(0, now=time.monotonic())
        self._gauge = gauge

    def kept(self, author: Author, tokens: int) -> None:
        """Count kept tokens."""
        self._gauge.kept[author] += tokens


class CountingEngine:
    """An engine that counts the tokens of another one."""

    def __init__(self, inner: Engine, gauge: ClientCounters, plan: Plan) -> None:
        """Count the tokens of ``inner``."""
        self._inner, self._gauge, self._plan = inner, gauge, plan
        self.probe, self.score, self.aclose = inner.probe, inner.score, inner.aclose

    def release(self, key: str) -> None:
        """Delegate."""
        self._gauge.service.forget(key, asyncio.get_running_loop().time())
        self._inner.release(key)

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Delegate and count."""
        loop, gauge, service = asyncio.get_running_loop(), self._gauge, self._gauge.service
        service.begin(request.key, loop.time())
        try:
            if self._plan.count_arrivals:
                await self._feed(request, sink)
            else:
                await self._inner.stream(request, sink)
        finally:
            service.end(request.key, loop.time())
            if not gauge.full.is_set():
                gauge.begun.add(request.key)
                if len(gauge.begun) >= self._plan.concurrency:
                    gauge.full.set()

    async def _feed(self, request: Request, sink: ChunkSink) -> None:
        """Count arriving tokens as well, stop ids included."""
        gauge = self._gauge

        def put(chunk: Chunk) -> None:  # short: what it takes counts as the client's
            gauge.received += len(chunk.ids) + (chunk.finish == "stop")
            sink.put(chunk)

        own = ChunkSink(put)
        sink.on_close = own.close
        try:
            await self._inner.stream(request, own)
        finally:
            sink.on_close = None


async def run_cooperation(site: Servers, renderers: dict[Author, Renderer], plan: Plan) -> Measured:
    """Keep ``plan.concurrency`` samples in flight and measure a window.

    Raises:
        RuntimeError: Samples failed.
    """
    gauge = ClientCounters()
    predictors = _predictors(renderers, plan, gauge)
    with tempfile.TemporaryDirectory(prefix="tessy-bench-") as folder:
        config = _config(Path(folder) / "run", plan)
        streaming = plan.draft_tokens is None
        parts = LoadedModels(
            renderers=renderers,
            replicas={
                a: [CountingEngine(engine, gauge, plan)]
                for a in SIDES
                for engine in [site.engine(a, renderers[a].codec, streaming=streaming)]
            },
            predictors=predictors,
        )
        async with open_resources(config, parts, lambda _: None) as table:
            gauge.requests = lambda: sum(sum(p.requests.values()) for p in table.pools.values())
            return await _run(table, gauge, site, config, plan)


async def _run(
    table: SynthesisResources,
    gauge: ClientCounters,
    site: Servers,
    config: SynthesizeConfig,
    plan: Plan,
) -> Measured:
    progress = CountingProgress(gauge)
    stop = Stop()
    with (
        Run.open(config.out, TRAJECTORIES, config={}, data_config={}) as run,
        Journal(run.paths.journal) as journal,
    ):
        workshop = SampleRunner(
            context=table.context,
            strategy=tessy,
            journal=journal,
            progress=progress,
            attempts=5,
            checkpoint=stop.check,
            in_flight=_begun(
                plan, {a: backend.renderer for a, backend in table.context.backends.items()}
            ),
        )

        async with asyncio.TaskGroup() as tasks:
            slots = Slots(plan.concurrency)
            working = tasks.create_task(
                run_jobs(
                    JobList(_jobs(plan)),
                    workshop.make,
                    sink=HeldSink(run),
                    admission=slots,
                    stop=stop,
                    written=workshop.written,
                )
            )
            await gauge.full.wait()  # a thousand samples take a while to be taken up
            measured = await measure(
                gauge, site, warm_up_seconds=plan.warm_up_seconds, seconds=plan.seconds
            )
            working.cancel()  # servers so slow would take minutes for what is in flight
        if progress.reasons:
            raise RuntimeError(f"samples failed: {dict(progress.reasons)}")
        return measured


def _jobs(plan: Plan) -> Iterator[SampleJob]:
    return (SampleJob(problem, 0) for problem in problems(plan.workload))


def _begun(plan: Plan, renderers: dict[Author, Renderer]) -> dict[Key, InFlight]:
    asked = itertools.islice(problems(plan.workload), plan.concurrency)
    return {
        (problem.id, 0): in_flight(
            start(index, plan.workload, renderers["student"]), problem, renderers
        )
        for index, problem in enumerate(asked)
    }


def _config(out: Path, plan: Plan) -> SynthesizeConfig:
    drafts = plan.draft_tokens or dict.fromkeys(SIDES)
    roles = {
        a: RoleConfig(model="simulated", url=[f"http://{a}"], draft_tokens=drafts[a]) for a in SIDES
    }
    return SynthesizeConfig(
        problems=out,
        out=out,
        thinking_tokens=200_000,
        answer_tokens=10_000,
        seed=plan.draw_seed,
        **roles,
    )


def _predictors(
    renderers: dict[Author, Renderer], plan: Plan, gauge: ClientCounters
) -> dict[Author, BoundaryPredictor]:
    """Return a scheduled predictor for each author, as two trained ones would be."""
    made: dict[Author, BoundaryPredictor] = {}
    delay = plan.predictor_delay_seconds * plan.slow_down
    codec = renderers["student"].codec
    models = {author: ScheduleModel(codec, delay) for author in SIDES}
    for author, model in models.items():
        if plan.predictor == "oracle":
            made[author] = Oracle(codec)
        elif plan.virtual:
            made[author] = QueuedPredictor(Oracle(codec), delay)
        else:
            # Any two windows share a pass, so that a batch takes the delay once.
            made[author] = TokenClassifierPredictor(
                model,
                codec,
                name=f"schedule {author}",
                max_wait_ms=plan.slow_down * MAX_WAIT_MS,
                slack=1 << 30,
            )
    queues = [p for p in made.values() if isinstance(p, TokenClassifierPredictor)]
    gauge.predictor_tokens = lambda: sum(queue.stats.tokens for queue in queues)
    gauge.predictor_seconds = lambda: sum(model.thread_seconds for model in models.values())
    return made
