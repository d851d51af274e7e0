"""Clients in processes of their own, so that CPU time and memory are measured for each alone."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from benchmarks.cooperation_client import Plan, run_cooperation
from benchmarks.latency import LATENCIES
from benchmarks.lock_step_client import run_lock_step
from benchmarks.measurement import Measured
from benchmarks.plain_client import EQUAL, TURN_TOKENS, run_plain
from benchmarks.processes import ignoring_interrupts
from benchmarks.results import stolen_share
from benchmarks.server_access import HttpServers, Servers, VirtualServers
from benchmarks.simulated_pair import PairOptions, SimulatedPair
from benchmarks.virtual_clock import VirtualLoop
from tessy.core.records import Author
from tessy.tokenization.families import load_renderer
from tessy.tokenization.renderer import Renderer

Client = Literal["ours", "plain", "lock_step"]

_TOKEN_SECONDS = {author: latency.token_seconds for author, latency in LATENCIES.items()}
_TRIES = 3
_MOST_STOLEN = 0.01
_SAMPLES_AT_FULL_SPEED = 8  # of simulated servers: then two slow cores are half idle
_WARM_UP_MODEL_SECONDS = 0.8  # five of the teacher's spans where servers are not slowed down


@dataclass(frozen=True, slots=True)
class ClientTask:
    """The task of a client's process.

    Attributes:
        client: Which one.
        plan: How.
        folders: Tokenizer folder of each model.
        urls: Servers; None: simulated ones in the process, on a virtual clock.
        session: The servers are one real one, which runs in this process session.
        cores: CPU cores of the client's process; None: any.
        teacher_share: For ``plain``: share of the tokens that is the teacher's.
        turn_tokens: For ``plain``: see :func:`benchmarks.plain_client.run_plain`.
    """

    client: Client
    plan: Plan
    folders: dict[Author, Path]
    urls: dict[Author, str] | None = None
    session: int | None = None
    cores: frozenset[int] | None = None
    teacher_share: float = 0.0
    turn_tokens: int = TURN_TOKENS


def send(task: ClientTask) -> Measured:
    """Run ``task`` in a process of its own, with a message, because a window takes minutes."""
    plan = task.plan
    seconds = plan.warm_up_seconds + plan.seconds
    clock = f"{seconds:.0f} virtual seconds" if plan.virtual else f"{seconds:.0f} s"
    client = {"ours": "tessy", "plain": "plain decoding", "lock_step": "lock-step client"}[
        task.client
    ]
    print(f"{client}, {plan.concurrency} samples: {clock}", file=sys.stderr, flush=True)
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run_on_its_cores, args=(task, sending))
    try:
        with ignoring_interrupts():
            process.start()
        sending.close()
        measured: Measured = receiving.recv()
    except EOFError as error:
        raise RuntimeError(f"{client} failed; what went wrong stands above this") from error
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        receiving.close()
    return measured


def send_undisturbed(task: ClientTask) -> Measured:
    """Repeat :func:`send` if the host took CPU time away; return the least disturbed window.

    What is measured must be bound by the CPU itself: then a host that takes a tenth of it away
    makes everything a third slower. The choice looks at nothing else. Each try has draws of its
    own, because a real server remembers what it wrote.
    """
    tries: list[Measured] = []
    for number in range(_TRIES):
        seed = task.plan.draw_seed + 1000 * number
        tries.append(send(replace(task, plan=replace(task.plan, draw_seed=seed))))
        stolen = stolen_share(tries[-1])
        if stolen <= _MOST_STOLEN:
            break
        print(f"the host took {stolen:.1%} of the CPU time away", file=sys.stderr, flush=True)
    return min(tries, key=stolen_share)


def _run_on_its_cores(task: ClientTask, sending: Connection) -> None:
    if task.cores is not None:
        os.sched_setaffinity(0, task.cores)
    sending.send(run(task))


def run(task: ClientTask) -> Measured:
    """Run ``task`` here."""
    loaded = {folder: load_renderer(folder) for folder in set(task.folders.values())}
    renderers = {author: loaded[folder] for author, folder in task.folders.items()}
    virtual = task.urls is None
    with asyncio.Runner(loop_factory=VirtualLoop if virtual else None) as runner:
        measured = runner.run(_go(task, renderers))
    return replace(measured, slow_down=task.plan.slow_down)


async def _go(task: ClientTask, renderers: dict[Author, Renderer]) -> Measured:
    plan = task.plan
    site = _site(task, renderers)
    try:
        if task.client == "ours":
            return await run_cooperation(site, renderers, plan)
        if task.client == "lock_step":
            return await run_lock_step(site, renderers, plan)
        return await run_plain(
            site,
            renderers,
            concurrency=plan.concurrency,
            teacher_share=task.teacher_share,
            workload=plan.workload,
            warm_up_seconds=plan.warm_up_seconds,
            seconds=plan.seconds,
            turn_tokens=task.turn_tokens,
            token_seconds=_TOKEN_SECONDS if task.session is None else EQUAL,
            in_context=task.session is not None,
        )
    finally:
        await site.aclose()


def _site(task: ClientTask, renderers: dict[Author, Renderer]) -> Servers:
    if task.urls is None:
        return VirtualServers(SimulatedPair(renderers["student"].codec, pair_options(task.plan)))
    if task.session is not None:
        from benchmarks.vllm import VllmServers

        student = renderers["student"]
        stop_ids = sorted(student.thinking_stop_ids | student.answer_stop_ids)
        return VllmServers(task.urls, task.session, stop_ids)
    return HttpServers(task.urls)


def pair_options(plan: Plan) -> PairOptions:
    """Return options of simulated servers for ``plan``: a slot for every sample."""
    return PairOptions(
        slots=plan.concurrency,
        slow_down=plan.slow_down,
        thinking_tokens=plan.workload.thinking_tokens,
        answer_tokens=plan.workload.answer_tokens,
    )


def slow_down_for(samples: int) -> float:
    """Return the slow-down of simulated servers at which two cores are not the limit."""
    return max(1.0, samples / _SAMPLES_AT_FULL_SPEED)


def warm_up_for(slow_down: float, least_seconds: float) -> float:
    """Return the seconds for five spans on servers so slow, and at least ``least_seconds``."""
    return max(least_seconds, _WARM_UP_MODEL_SECONDS * slow_down)


def with_seed(plan: Plan, seed: int, *, real: bool) -> Plan:
    """``plan`` with other problems and starting points, or only other draws.

    ``real`` servers have read the starting points before; what is written then is always new.
    """
    if real:
        return replace(plan, draw_seed=seed)
    return replace(plan, workload=replace(plan.workload, seed=seed))
