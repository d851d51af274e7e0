"""Replicas of one role; the only place where requests are retried.

A sample stays on its replica, where its prefix is cached, until that replica fails.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Self, TypeVar

from tessy.core.errors import (
    ConfigError,
    EngineMisconfigured,
    EngineRefused,
    EngineUnavailable,
    SampleFailed,
)
from tessy.inference.base import EngineInfo, ServerLike
from tessy.inference.pool.health import HealthMonitor, backoff
from tessy.inference.pool.replica import Replica, choose, merged, not_listening

log = logging.getLogger(__name__)

FAILURES_TO_LEAVE = 3  # consecutive failures, of any sample, until a replica counts as failed
FAILURES_TO_MOVE = 2  # failures of one request after which its sample moves to another replica
MAX_STRIKES = 5  # consecutive failures of one request on replicas that served others meanwhile
CHECK_SECONDS = 1.0  # of a wait, until `check` is called
MAX_TRIES = 200  # tries of one request without progress

ServerT = TypeVar("ServerT", bound=ServerLike)
ResultT = TypeVar("ResultT")


def ignore(*_: object) -> None:
    """No-op callback."""


@dataclass(slots=True)
class RetryState:
    """Retry state of one request."""

    key: str  # the sample
    tries: int = 0  # failures since its last progress
    strikes: int = 0  # failures at replicas that served other requests meanwhile
    failures_here: int = 0  # consecutive failures at the current replica
    since: float | None = None  # time of the first of them (clock)
    # requests served by each replica at the last failure there
    marks: dict[str, int] = field(default_factory=dict)

    def reset(self) -> None:
        """Reset after progress."""
        self.tries = self.strikes = self.failures_here = 0
        self.since = None
        self.marks.clear()


class Failover(Generic[ServerT]):
    """Replicas of one role; use a subclass as ``async with Pool(…) as pool``."""

    def __init__(
        self,
        replicas: Sequence[ServerT],
        names: Sequence[str],
        *,
        role: str = "model",
        patience_seconds: float = 1800.0,  # without a reply from any replica
        on_wait: Callable[[str | None], None] = ignore,
        on_move: Callable[[str, str], None] = ignore,
        check: Callable[[], None] = ignore,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Create a pool, which closes its replicas; raises ConfigError if a name occurs twice.

        ``names`` also decide which samples a replica gets. ``on_wait`` is called repeatedly with a
        message while no server answers, and with None afterwards; ``on_move`` with a sample's key
        and the name of its new replica. ``check`` is called between tries and may raise to leave a
        request. ``clock`` is monotonic (seconds); ``draw`` returns random numbers in [0, 1).
        """
        if len(set(names)) < len(names):
            raise ConfigError(f"{role}: a server is named twice in {', '.join(names)}")
        self._replicas = [
            Replica(name, engine) for name, engine in zip(names, replicas, strict=True)
        ]
        self._role = role
        self._patience = patience_seconds
        self._on_wait, self._on_move, self._check = on_wait, on_move, check
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._homes: dict[str, Replica[ServerT]] = {}
        self._last_served = -math.inf
        self._monitor = HealthMonitor(
            self._replicas, role=role, on_wait=on_wait, clock=clock, sleep=sleep, draw=draw
        )

    async def __aenter__(self) -> Self:
        self._monitor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the health task and close every replica."""
        try:
            await self._monitor.stop()
        finally:
            closing = (replica.engine.aclose() for replica in self._replicas)
            for ending in await asyncio.gather(*closing, return_exceptions=True):
                if ending is not None:
                    raise ending

    def down(self) -> str | None:
        """Return a message that names the replicas that do not answer at present, if any."""
        names = [replica.name for replica in self._replicas if not replica.healthy]
        if not names:
            return None
        return f"{self._role}: {len(names)} of {len(self._replicas)} down ({', '.join(names)})"

    async def probe(self) -> EngineInfo:
        """Probe every replica, until one of them answers; return what all of them support.

        A replica that cannot be reached is left out with a note if another one answers. Raises
        EngineUnavailable if none does for longer than the patience.
        """
        started, tries = self._clock(), 0
        while len(missing := await self._probe_all()) == len(self._replicas):
            tries += 1
            await self._wait_for_start(missing, tries, self._clock() - started)
        if tries:
            self._on_wait(None)
        for replica, fault in missing.items():
            self._monitor.leave(replica, str(fault))
        infos = {r.name: r.info for r in self._replicas if r.info is not None}
        info = self._monitor.expected = merged(infos)
        late = (
            f"{r.name} is not ready ({f}); it gets samples once it is" for r, f in missing.items()
        )
        return replace(info, notes=(*late, *info.notes))

    async def _probe_all(self) -> dict[Replica[ServerT], EngineUnavailable]:
        """Probe every replica once; return the faults of those that are unavailable."""
        probes = (replica.engine.probe() for replica in self._replicas)
        results = await asyncio.gather(*probes, return_exceptions=True)
        missing = {}
        for replica, result in zip(self._replicas, results, strict=True):
            if isinstance(result, EngineUnavailable):
                missing[replica] = result
            elif isinstance(result, EngineMisconfigured):
                raise EngineMisconfigured(f"{self._role} {replica.name}: {result}") from result
            elif isinstance(result, BaseException):
                raise result
            else:
                replica.info = result
        return missing

    async def _wait_for_start(
        self, missing: Mapping[Replica[ServerT], EngineUnavailable], tries: int, silent: float
    ) -> None:
        """Wait before all replicas are probed again, or raise at the end of the patience."""
        troubles = "; ".join(f"{replica.name} ({fault})" for replica, fault in missing.items())
        if all(fault.status is None for fault in missing.values()):  # it has not answered
            troubles += "; start the server or check the URL"
        if silent >= self._patience:
            raise EngineUnavailable(
                f"{self._role}: no server was ready within {silent:.0f} s: {troubles}"
            )
        if tries == 1:
            log.warning(
                "%s: no server is ready, waiting up to %.0f s: %s",
                self._role,
                self._patience,
                troubles,
            )
        self._on_wait(f"{self._role}: no server is ready; waiting ({silent:.0f} s)…")
        asked = min(fault.retry_after_seconds or 0.0 for fault in missing.values())
        wait = max(backoff(tries, self._draw()), asked)
        await self._pause(min(wait, self._patience - silent))

    @property
    def capacities(self) -> dict[str, int | None]:
        """Tokens of KV cache by replica; None where unknown."""
        return {replica.name: replica.capacity for replica in self._replicas}

    @property
    def requests(self) -> dict[str, int]:
        """Requests sent so far by replica, repeated ones included."""
        return {replica.name: replica.requests for replica in self._replicas}

    def assign(self, key: str) -> str:
        """Choose the replica of the sample ``key`` unless it has one; return its name."""
        home = (
            self._healthy_home(key)
            or self._settle(key, avoid=None)
            or self._homes.get(key)
            or self._home(key, self._replicas)
        )
        return home.name

    def release(self, key: str) -> None:
        """Release the finished sample ``key`` and its cache."""
        home = self._homes.pop(key, None)
        if home is not None:
            home.samples -= 1
            home.engine.release(key)

    async def _retried(
        self, state: RetryState, send: Callable[[ServerT], Awaitable[ResultT]]
    ) -> ResultT:
        """Return the result of a request that comes as a whole, from any replica."""
        while True:
            replica = await self._next(state)
            try:
                result = await send(replica.engine)
            except EngineUnavailable as error:
                fault = error
            except EngineMisconfigured as error:
                fault = self._misconfigured(replica, error)
            except EngineRefused as error:
                raise SampleFailed("refused", str(error)) from error
            else:
                self._served(replica, state)
                return result
            await self._failed(replica, state, fault)

    async def _next(self, state: RetryState) -> Replica[ServerT]:
        """Return the replica for the next try, and count the request."""
        self._check()
        return self._count(await self._find(state), state)

    def _next_at_once(self, state: RetryState) -> Replica[ServerT] | None:
        """Return the same without waiting, if the sample's replica is healthy; else None."""
        self._check()
        home = self._healthy_home(state.key)
        return None if home is None else self._count(home, state)

    @staticmethod
    def _count(replica: Replica[ServerT], state: RetryState) -> Replica[ServerT]:
        replica.calls += 1
        state.marks.setdefault(replica.name, replica.served)
        return replica

    def _served(self, replica: Replica[ServerT], state: RetryState) -> None:
        state.reset()
        self._last_served = self._clock()
        self._monitor.served(replica)

    def _misconfigured(
        self, replica: Replica[ServerT], error: EngineMisconfigured
    ) -> EngineUnavailable:
        """Exclude ``replica``; raises ``error`` if no other replica is usable."""
        if all(other.misconfigured for other in self._replicas if other is not replica):
            raise error
        self._monitor.leave(replica, str(error), misconfigured=True)
        return EngineUnavailable(str(error))

    async def _failed(
        self, replica: Replica[ServerT], state: RetryState, fault: EngineUnavailable
    ) -> None:
        """Record the failure; wait, move the sample, or give up."""
        state.tries += 1
        if state.since is None:
            state.since = self._clock()
        # A server that sends Retry-After is busy: neither it nor the request has failed.
        if fault.retry_after_seconds is None and fault.status != 429:
            replica.failures += 1
            state.failures_here += 1
            if replica.served > state.marks.setdefault(replica.name, replica.served):
                # 503 comes from full queues, and from gateways of servers that are gone.
                state.strikes += fault.status != 503
                state.marks[replica.name] = replica.served
            if not_listening(fault) or replica.failures >= FAILURES_TO_LEAVE:
                self._monitor.leave(replica, str(fault))
        log.debug("%s: %s failed (%d in a row): %s", state.key, replica.name, state.tries, fault)
        self._give_up(state, str(fault))
        if not replica.healthy:
            return
        key = state.key
        if state.failures_here >= FAILURES_TO_MOVE and self._settle(key, avoid=replica) is not None:
            state.failures_here = 0
        wait = backoff(state.tries, self._draw())
        if fault.retry_after_seconds is not None:
            wait = max(wait, min(fault.retry_after_seconds, self._patience))
        await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        while seconds > 0:
            await self._sleep(min(seconds, CHECK_SECONDS))
            seconds -= CHECK_SECONDS
            self._check()

    def _give_up(self, state: RetryState, reason: str) -> None:
        since = self._clock() if state.since is None else state.since
        served_since = self._last_served > since
        if state.strikes >= MAX_STRIKES or (state.tries >= MAX_TRIES and served_since):
            raise SampleFailed(
                "server_error",
                f"the {self._role} failed this request {state.tries} times in a row while it "
                f"served others; last: {reason}",
            )
        silent = self._clock() - max(since, self._last_served)
        if silent >= self._patience:
            raise EngineUnavailable(
                f"{self._role}: nothing came from {', '.join(r.name for r in self._replicas)} for "
                f"{silent:.0f} s; last: {reason}; start the server again, then the same command "
                "resumes it"
            )

    async def _find(self, state: RetryState) -> Replica[ServerT]:
        """Return the replica for the next try, waiting for one if none is healthy."""
        while True:
            key = state.key
            home = self._healthy_home(key)
            if home is not None:
                return home
            home = self._settle(key, avoid=None)
            if home is not None:
                state.failures_here = 0
                return home
            if state.since is None:
                state.since = self._clock()
            troubles = "; ".join(f"{r.name}: {r.trouble}" for r in self._replicas)
            if all(r.misconfigured for r in self._replicas):
                raise EngineMisconfigured(f"{self._role}: {troubles}")
            self._give_up(state, troubles)
            await self._monitor.next_round()
            self._check()

    def _healthy_home(self, key: str) -> Replica[ServerT] | None:
        home = self._homes.get(key)
        return home if home is not None and home.healthy else None

    def _settle(self, key: str, *, avoid: Replica[ServerT] | None) -> Replica[ServerT] | None:
        """Assign ``key`` to a healthy replica other than ``avoid``; None if there is none."""
        able = [r for r in self._replicas if r.healthy and r is not avoid]
        return self._home(key, able) if able else None

    def _home(self, key: str, among: Sequence[Replica[ServerT]]) -> Replica[ServerT]:
        old = self._homes.get(key)
        self.release(key)
        home = choose(key, among)
        self._homes[key] = home
        home.samples += 1
        if old is not None and old is not home:
            log.info("%s moves from %s to %s", key, old.name, home.name)
            self._on_move(key, home.name)
        return home
