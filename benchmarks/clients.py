"""One client in a process of its own: its CPU time and memory are nobody else's."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from benchmarks.floor import Floor, FloorOptions
from benchmarks.gauge import Measured
from benchmarks.latency import LATENCIES
from benchmarks.lockstep import run_lock_step
from benchmarks.ours import Plan, run_ours
from benchmarks.plain import EQUAL, TURN_TOKENS, run_plain
from benchmarks.processes import deaf_to_interrupts
from benchmarks.results import stolen_share
from benchmarks.sites import HttpSite, Site, VirtualSite
from benchmarks.virtual import VirtualLoop
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
class Errand:
    """What a client's process is to do.

    Attributes:
        client: Which one.
        plan: How.
        folders: Tokenizer folder of each model.
        urls: Servers; None: simulated ones in the process, on a virtual clock.
        session: The servers are one real one, which runs in this process session.
        cores: CPU cores of the client's process; None: any.
        teacher_share: For ``plain``: share of the tokens that is the teacher's.
        turn_tokens: For ``plain``: see :func:`benchmarks.plain.run_plain`.
    """

    client: Client
    plan: Plan
    folders: dict[Author, Path]
    urls: dict[Author, str] | None = None
    session: int | None = None
    cores: frozenset[int] | None = None
    teacher_share: float = 0.0
    turn_tokens: int = TURN_TOKENS


def send(errand: Errand) -> Measured:
    """Run ``errand`` in a process of its own, and say so: a window takes minutes."""
    plan = errand.plan
    seconds = plan.warm_up_seconds + plan.seconds
    clock = f"{seconds:.0f} virtual seconds" if plan.virtual else f"{seconds:.0f} s"
    client = {"ours": "tessy", "plain": "plain decoding", "lock_step": "lock-step client"}[
        errand.client
    ]
    print(f"{client}, {plan.concurrency} samples: {clock}", file=sys.stderr, flush=True)
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run_on_its_cores, args=(errand, sending))
    try:
        with deaf_to_interrupts():
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


def send_undisturbed(errand: Errand) -> Measured:
    """:func:`send`, again if the host took CPU time away: the least disturbed window of a few.

    What is measured must be bound by the CPU itself: then a host that takes a tenth of it away
    makes everything a third slower. The choice looks at nothing else. Each try has draws of its
    own, because a real server remembers what it wrote.
    """
    tries: list[Measured] = []
    for number in range(_TRIES):
        seed = errand.plan.draw_seed + 1000 * number
        tries.append(send(replace(errand, plan=replace(errand.plan, draw_seed=seed))))
        stolen = stolen_share(tries[-1])
        if stolen <= _MOST_STOLEN:
            break
        print(f"the host took {stolen:.1%} of the CPU time away", file=sys.stderr, flush=True)
    return min(tries, key=stolen_share)


def _run_on_its_cores(errand: Errand, sending: Connection) -> None:
    if errand.cores is not None:
        os.sched_setaffinity(0, errand.cores)
    sending.send(run(errand))


def run(errand: Errand) -> Measured:
    """Run ``errand`` here."""
    loaded = {folder: load_renderer(folder) for folder in set(errand.folders.values())}
    renderers = {author: loaded[folder] for author, folder in errand.folders.items()}
    virtual = errand.urls is None
    with asyncio.Runner(loop_factory=VirtualLoop if virtual else None) as runner:
        measured = runner.run(_go(errand, renderers))
    return replace(measured, slow_down=errand.plan.slow_down)


async def _go(errand: Errand, renderers: dict[Author, Renderer]) -> Measured:
    plan = errand.plan
    site = _site(errand, renderers)
    try:
        if errand.client == "ours":
            return await run_ours(site, renderers, plan)
        if errand.client == "lock_step":
            return await run_lock_step(site, renderers, plan)
        return await run_plain(
            site,
            renderers,
            concurrency=plan.concurrency,
            teacher_share=errand.teacher_share,
            workload=plan.workload,
            warm_up_seconds=plan.warm_up_seconds,
            seconds=plan.seconds,
            turn_tokens=errand.turn_tokens,
            token_seconds=_TOKEN_SECONDS if errand.session is None else EQUAL,
            in_context=errand.session is not None,
        )
    finally:
        await site.aclose()


def _site(errand: Errand, renderers: dict[Author, Renderer]) -> Site:
    if errand.urls is None:
        return VirtualSite(Floor(renderers["student"].codec, floor_options(errand.plan)))
    if errand.session is not None:
        from benchmarks.vllm import VllmSite

        student = renderers["student"]
        stop_ids = sorted(student.thinking_stop_ids | student.answer_stop_ids)
        return VllmSite(errand.urls, errand.session, stop_ids)
    return HttpSite(errand.urls)


def floor_options(plan: Plan) -> FloorOptions:
    """Simulated servers for ``plan``: a slot for every sample."""
    return FloorOptions(
        slots=plan.concurrency,
        slow_down=plan.slow_down,
        thinking_tokens=plan.workload.thinking_tokens,
        answer_tokens=plan.workload.answer_tokens,
    )


def slow_down_for(samples: int) -> float:
    """By how much to slow simulated servers down so that two cores are not the limit."""
    return max(1.0, samples / _SAMPLES_AT_FULL_SPEED)


def warm_up_for(slow_down: float, least_seconds: float) -> float:
    """Seconds in which simulated servers so slow write five spans; ``least_seconds`` at least."""
    return max(least_seconds, _WARM_UP_MODEL_SECONDS * slow_down)


def with_seed(plan: Plan, seed: int, *, real: bool) -> Plan:
    """``plan`` with other questions and starting points, or only other draws.

    ``real`` servers have read the starting points before; what is written then is always new.
    """
    if real:
        return replace(plan, draw_seed=seed)
    return replace(plan, workload=replace(plan.workload, seed=seed))
