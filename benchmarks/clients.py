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
_SAMPLES_AT_FULL_SPEED = 8  # of simulated servers, with two cores half idle
_WARM_UP_MODEL_SECONDS = 0.8  # five spans of the teacher without a slow-down


@dataclass(frozen=True, slots=True)
class ClientTask:
    """The task of a client's process.

    Attributes:
        client: Kind of client.
        plan: Settings of the measurement.
        folders: Tokenizer folder of each model.
        urls: URLs of the servers; None: simulated in the process, on a virtual clock.
        session: Process session of a real server in both roles; None for simulated servers.
        cores: CPU cores of the client's process; None: any.
        teacher_share: For ``plain``: the teacher's share of the tokens.
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
        raise RuntimeError(f"{client} failed; its error is printed above") from error
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        receiving.close()
    return measured


def send_undisturbed(task: ClientTask) -> Measured:
    """Repeat :func:`send` if the host stole CPU time; return the least disturbed window.

    For measurements that the CPU limits, where a tenth of stolen CPU time slows everything down by
    a third. The choice depends on stolen time only. Each try has its own seed, because a real
    server caches what it generated.
    """
    tries: list[Measured] = []
    for number in range(_TRIES):
        seed = task.plan.draw_seed + 1000 * number
        tries.append(send(replace(task, plan=replace(task.plan, draw_seed=seed))))
        stolen = stolen_share(tries[-1])
        if stolen <= _MOST_STOLEN:
            break
        print(f"{stolen:.1%} of the CPU time was stolen by the host", file=sys.stderr, flush=True)
    return min(tries, key=stolen_share)


def _run_on_its_cores(task: ClientTask, sending: Connection) -> None:
    if task.cores is not None:
        os.sched_setaffinity(0, task.cores)
    sending.send(run(task))


def run(task: ClientTask) -> Measured:
    """Run ``task`` in this process."""
    loaded = {folder: load_renderer(folder) for folder in set(task.folders.values())}
    renderers = {author: loaded[folder] for author, folder in task.folders.items()}
    virtual = task.urls is None
    with asyncio.Runner(loop_factory=VirtualLoop if virtual else None) as runner:
        measured = runner.run(_run_client(task, renderers))
    return replace(measured, slow_down=task.plan.slow_down)


async def _run_client(task: ClientTask, renderers: dict[Author, Renderer]) -> Measured:
    plan = task.plan
    servers = _servers(task, renderers)
    try:
        if task.client == "ours":
            return await run_cooperation(servers, renderers, plan)
        if task.client == "lock_step":
            return await run_lock_step(servers, renderers, plan)
        return await run_plain(
            servers,
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
        await servers.aclose()


def _servers(task: ClientTask, renderers: dict[Author, Renderer]) -> Servers:
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
    """Return a warm-up of five spans at ``slow_down``, and at least ``least_seconds``."""
    return max(least_seconds, _WARM_UP_MODEL_SECONDS * slow_down)


def with_seed(plan: Plan, seed: int, *, real: bool) -> Plan:
    """``plan`` with other problems and starting points, or only other draws.

    ``real`` servers have read the starting points before; what is written then is always new.
    """
    if real:
        return replace(plan, draw_seed=seed)
    return replace(plan, workload=replace(plan.workload, seed=seed))
