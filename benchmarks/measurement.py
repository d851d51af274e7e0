"""Measurement of a client in a steady window."""

from __future__ import annotations

import asyncio
import os
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.latency import Totals
from benchmarks.server_access import Servers


def _nothing() -> float:
    return 0.0


class OpenRequestTimes:
    """Seconds in which samples have requests open or none, from the client's view."""

    def __init__(self) -> None:
        """Start without open requests."""
        self._busy_seconds = self._idle_seconds = 0.0
        self._open: Counter[str] = Counter()
        self._since: dict[str, float] = {}  # last change between open and none open, by sample

    def begin(self, key: str, now: float) -> None:
        """Record that a request of the sample ``key`` was sent."""
        if not self._open[key]:
            self._idle_seconds += now - self._since.get(key, now)
            self._since[key] = now
        self._open[key] += 1

    def end(self, key: str, now: float) -> None:
        """Record that a request has ended or was aborted."""
        self._open[key] -= 1
        if not self._open[key]:
            self._busy_seconds += now - self._since[key]
            self._since[key] = now

    def forget(self, key: str, now: float) -> None:
        """Record the end of the sample ``key``, unless a request is open."""
        if not self._open[key] and key in self._since:
            self._idle_seconds += now - self._since.pop(key)

    def until(self, now: float) -> tuple[float, float]:
        """Return the seconds with a request open, over all samples, and the seconds without.

        Requests open at ``now`` count, because requests of a sample can overlap without a gap.
        """
        busy, idle = self._busy_seconds, self._idle_seconds
        for key, since in self._since.items():
            if self._open[key]:
                busy += now - since
            else:
                idle += now - since
        return busy, idle


@dataclass
class ClientCounters:
    """Counters of a running client.

    Attributes:
        kept: Tokens added to samples, by author; answers are the student's.
        received: Tokens that reached the client.
        requests: Requests sent so far.
        predictor_tokens: Tokens read by predictors so far.
        predictor_seconds: CPU seconds of predictors' threads so far.
        started: Samples of which a request has ended.
        full: Set when the target number of samples has started.
        open_requests: Times with and without open requests.
    """

    kept: Counter[str] = field(default_factory=Counter)
    received: int = 0
    requests: Callable[[], float] = _nothing
    predictor_tokens: Callable[[], float] = _nothing
    predictor_seconds: Callable[[], float] = _nothing
    started: set[str] = field(default_factory=set)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    open_requests: OpenRequestTimes = field(default_factory=OpenRequestTimes)


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement of one client in one window.

    Attributes:
        seconds: Length of the window on its clock, including the slow-down.
        kept: Tokens kept.
        teacher_share: Share of the kept tokens that the teacher generated.
        received: Tokens that reached the client.
        generated: Tokens that the servers generated.
        requests: Requests sent.
        predictor_tokens: Tokens read by predictors.
        cpu_seconds: CPU time of the client's process without predictors' threads.
        predictor_seconds: CPU time of predictors' threads.
        server_cpu_seconds: CPU time of the servers' processes, by name.
        machine_cpu_seconds: CPU time of all processes of the machine; 0 where unknown.
        stolen_cpu_seconds: CPU time stolen by the host; 0 where unknown.
        steps: Steps of real servers' engines.
        prefilled: Prompt tokens that real servers computed because no cache held them.
        busy_seconds: Slot time in use; of real servers, time in which samples have a request open.
        idle_seconds: Slot time empty while a sample waits for that server; of real servers, time
            in which samples have no request open.
        peak_rss_mib: Peak memory of the client's process so far.
        slow_down: Factor on the servers' times.
    """

    seconds: float
    kept: int
    teacher_share: float
    received: int
    generated: int
    requests: int
    predictor_tokens: int
    cpu_seconds: float
    predictor_seconds: float
    server_cpu_seconds: dict[str, float]
    machine_cpu_seconds: float
    stolen_cpu_seconds: float
    steps: int
    prefilled: int
    busy_seconds: float
    idle_seconds: float
    peak_rss_mib: float
    slow_down: float = 1.0


@dataclass(frozen=True, slots=True)
class _Snapshot:
    time: float
    kept: Counter[str]
    received: int
    requests: float
    predictor_tokens: float
    predictor_seconds: float
    cpu_seconds: float
    totals: list[Totals]
    server_cpu_seconds: dict[str, float]
    machine_cpu_seconds: float
    stolen_cpu_seconds: float
    busy_seconds: float
    idle_seconds: float


async def measure(
    counters: ClientCounters, servers: Servers, *, warm_up_seconds: float, seconds: float
) -> Measured:
    """Wait for a steady state, then measure for ``seconds``."""
    await asyncio.sleep(warm_up_seconds)
    before = await _snapshot(counters, servers)
    await asyncio.sleep(seconds)
    after = await _snapshot(counters, servers)
    kept = after.kept - before.kept
    totals = [late.since(early) for late, early in zip(after.totals, before.totals, strict=True)]
    predictor_seconds = after.predictor_seconds - before.predictor_seconds
    return Measured(
        seconds=after.time - before.time,
        kept=kept.total(),
        teacher_share=kept["teacher"] / max(1, kept.total()),
        received=after.received - before.received,
        generated=sum(total.generated for total in totals),
        requests=round(after.requests - before.requests),
        predictor_tokens=round(after.predictor_tokens - before.predictor_tokens),
        cpu_seconds=after.cpu_seconds - before.cpu_seconds - predictor_seconds,
        predictor_seconds=predictor_seconds,
        server_cpu_seconds={
            name: spent - before.server_cpu_seconds[name]
            for name, spent in after.server_cpu_seconds.items()
        },
        machine_cpu_seconds=after.machine_cpu_seconds - before.machine_cpu_seconds,
        stolen_cpu_seconds=after.stolen_cpu_seconds - before.stolen_cpu_seconds,
        steps=sum(total.steps for total in totals),
        prefilled=sum(total.prefilled for total in totals),
        busy_seconds=after.busy_seconds - before.busy_seconds,
        idle_seconds=after.idle_seconds - before.idle_seconds,
        peak_rss_mib=_peak_rss_mib(),
    )


async def _snapshot(counters: ClientCounters, servers: Servers) -> _Snapshot:
    totals, server_cpu_seconds = await servers.totals()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    machine, stolen = _machine_cpu_seconds()
    now = asyncio.get_running_loop().time()
    seen = totals.values()
    busy_seconds, idle_seconds = counters.open_requests.until(now)
    if not any(total.steps for total in seen):  # simulated servers report their slots
        busy_seconds = sum(total.busy_seconds for total in seen)
        idle_seconds = sum(total.idle_seconds for total in seen)
    return _Snapshot(
        time=now,
        kept=Counter(counters.kept),
        received=counters.received,
        requests=counters.requests(),
        predictor_tokens=counters.predictor_tokens(),
        predictor_seconds=counters.predictor_seconds(),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        totals=list(totals.values()),
        server_cpu_seconds=server_cpu_seconds,
        machine_cpu_seconds=machine,
        stolen_cpu_seconds=stolen,
        busy_seconds=busy_seconds,
        idle_seconds=idle_seconds,
    )


def _machine_cpu_seconds() -> tuple[float, float]:
    """Return CPU seconds of this machine, and those stolen by the host; 0 if unknown."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0, 0.0
    ticks = map(int, path.read_text().split(maxsplit=9)[1:9])
    user, nice, system, _, _, irq, softirq, stolen = ticks
    second = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / second, stolen / second


def _peak_rss_mib() -> float:
    """Return the peak memory of this process so far.

    Of a new program Linux's ``ru_maxrss`` is also what the process had that started it.
    """
    path = Path("/proc/self/status")
    if not path.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS gives bytes
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024
