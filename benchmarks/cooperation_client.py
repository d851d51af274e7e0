"""The cooperation as a client, driven through its public parts, in a steady window."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.measurement import ClientCounters, Measured, measure
from benchmarks.scheduled_predictor import Oracle, ScheduleModel
from benchmarks.server_access import SIDES, Servers
from benchmarks.virtual_clock import FrozenTimeSink, QueuedPredictor
from benchmarks.workload import Workload, in_flight, problems, starting_point
from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.classifier.predictor import MAX_WAIT_MS, TokenClassifierPredictor
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
        warm_up_seconds: Time before the window; independent of ``slow_down``.
        seconds: Length of the window; independent of ``slow_down``.
        slow_down: Factor on the servers' times, and on the delay and waits of predictors.
        predictor: ``queue``: with the queue of a classifier; ``oracle``: without queue and delay.
        predictor_delay_seconds: Duration of a batch, before the slow-down.
        virtual: Run on a virtual clock.
        workload: Lengths and starting points of samples.
        draw_seed: Seed of sampling, for models that use one.
        draft_tokens: Tokens of a draft; None: one stream per span.
        count_arrivals: Whether to count received tokens, which costs the client some time.
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
    """Progress that counts kept tokens for a measurement."""

    def __init__(self, counters: ClientCounters) -> None:
        """Add to ``counters``."""
        super().__init__(0, now=time.monotonic())
        self._counters = counters

    def kept(self, author: Author, tokens: int) -> None:
        """Count kept tokens."""
        self._counters.kept[author] += tokens


class CountingEngine:
    """An engine that counts the tokens of another one."""

    def __init__(self, inner: Engine, counters: ClientCounters, plan: Plan) -> None:
        """Count the tokens of ``inner``."""
        self._inner, self._counters, self._plan = inner, counters, plan
        self.probe, self.score, self.aclose = inner.probe, inner.score, inner.aclose

    def release(self, key: str) -> None:
        """Delegate."""
        self._counters.open_requests.forget(key, asyncio.get_running_loop().time())
        self._inner.release(key)

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Delegate and count."""
        loop, counters = asyncio.get_running_loop(), self._counters
        open_requests = counters.open_requests
        open_requests.begin(request.key, loop.time())
        try:
            if self._plan.count_arrivals:
                await self._feed(request, sink)
            else:
                await self._inner.stream(request, sink)
        finally:
            open_requests.end(request.key, loop.time())
            if not counters.full.is_set():
                counters.started.add(request.key)
                if len(counters.started) >= self._plan.concurrency:
                    counters.full.set()

    async def _feed(self, request: Request, sink: ChunkSink) -> None:
        """Count arriving tokens as well, stop ids included."""
        counters = self._counters

        def put(chunk: Chunk) -> None:  # its time counts as the client's
            counters.received += len(chunk.ids) + (chunk.finish == "stop")
            sink.put(chunk)

        own = ChunkSink(put)
        sink.on_close = own.close
        try:
            await self._inner.stream(request, own)
        finally:
            sink.on_close = None


async def run_cooperation(
    servers: Servers, renderers: dict[Author, Renderer], plan: Plan
) -> Measured:
    """Keep ``plan.concurrency`` samples in flight and measure a window.

    Raises:
        RuntimeError: Samples failed.
    """
    counters = ClientCounters()
    predictors = _predictors(renderers, plan, counters)
    with tempfile.TemporaryDirectory(prefix="tessy-bench-") as folder:
        config = _config(Path(folder) / "run", plan)
        streaming = plan.draft_tokens is None
        parts = LoadedModels(
            renderers=renderers,
            replicas={
                a: [CountingEngine(engine, counters, plan)]
                for a in SIDES
                for engine in [servers.engine(a, renderers[a].codec, streaming=streaming)]
            },
            predictors=predictors,
        )
        async with open_resources(config, parts, lambda _: None) as resources:
            counters.requests = lambda: sum(
                sum(p.requests.values()) for p in resources.pools.values()
            )
            return await _run(resources, counters, servers, config, plan)


async def _run(
    resources: SynthesisResources,
    counters: ClientCounters,
    servers: Servers,
    config: SynthesizeConfig,
    plan: Plan,
) -> Measured:
    progress = CountingProgress(counters)
    stop = Stop()
    with (
        Run.open(config.out, TRAJECTORIES, config={}, data_config={}) as run,
        Journal(run.paths.journal) as journal,
    ):
        runner = SampleRunner(
            context=resources.context,
            strategy=tessy,
            journal=journal,
            progress=progress,
            attempts=5,
            checkpoint=stop.check,
            in_flight=_in_flight(
                plan, {a: backend.renderer for a, backend in resources.context.backends.items()}
            ),
        )

        async with asyncio.TaskGroup() as tasks:
            slots = Slots(plan.concurrency)
            running = tasks.create_task(
                run_jobs(
                    JobList(_jobs(plan)),
                    runner.make,
                    sink=FrozenTimeSink(run),
                    admission=slots,
                    stop=stop,
                    written=runner.written,
                )
            )
            await counters.full.wait()  # a thousand samples take a while to start
            measured = await measure(
                counters, servers, warm_up_seconds=plan.warm_up_seconds, seconds=plan.seconds
            )
            running.cancel()  # slow servers would take minutes to finish
        if progress.reasons:
            raise RuntimeError(f"samples failed: {dict(progress.reasons)}")
        return measured


def _jobs(plan: Plan) -> Iterator[SampleJob]:
    return (SampleJob(problem, 0) for problem in problems(plan.workload))


def _in_flight(plan: Plan, renderers: dict[Author, Renderer]) -> dict[Key, InFlight]:
    first = itertools.islice(problems(plan.workload), plan.concurrency)
    return {
        (problem.id, 0): in_flight(
            starting_point(index, plan.workload, renderers["student"]), problem, renderers
        )
        for index, problem in enumerate(first)
    }


def _config(out: Path, plan: Plan) -> SynthesizeConfig:
    drafts = plan.draft_tokens or dict.fromkeys(SIDES)
    roles: dict[str, Any] = {
        a: {"model": "simulated", "url": [f"http://{a}"], "draft_tokens": drafts[a]} for a in SIDES
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
    renderers: dict[Author, Renderer], plan: Plan, counters: ClientCounters
) -> dict[Author, BoundaryPredictor]:
    """Return a scheduled predictor for each author, in place of two trained ones."""
    predictors: dict[Author, BoundaryPredictor] = {}
    delay = plan.predictor_delay_seconds * plan.slow_down
    codec = renderers["student"].codec
    models = {author: ScheduleModel(codec, delay) for author in SIDES}
    for author, model in models.items():
        if plan.predictor == "oracle":
            predictors[author] = Oracle(codec)
        elif plan.virtual:
            predictors[author] = QueuedPredictor(Oracle(codec), delay)
        else:
            # Slack lets any two windows share a pass, so that a batch takes the delay once.
            predictors[author] = TokenClassifierPredictor(
                model,
                codec,
                name=f"schedule {author}",
                max_wait_ms=plan.slow_down * MAX_WAIT_MS,
                slack=1 << 30,
            )
    queues = [p for p in predictors.values() if isinstance(p, TokenClassifierPredictor)]
    counters.predictor_tokens = lambda: sum(queue.stats.tokens for queue in queues)
    counters.predictor_seconds = lambda: sum(model.thread_seconds for model in models.values())
    return predictors
