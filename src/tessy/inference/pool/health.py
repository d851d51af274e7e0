"""Health of the replicas of a role: failed ones are checked until they recover."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from tessy.core.errors import EngineError, EngineMisconfigured, EngineUnavailable
from tessy.inference.base import EngineInfo, ServerLike
from tessy.inference.pool.replica import Replica, unusable

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0
CHECK_SECONDS = 30.0  # a replica that takes longer counts as unhealthy


def backoff(tries: int, draw: float) -> float:
    """Return the seconds to wait after ``tries`` consecutive failures; ``draw`` is jitter."""
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(tries - 1, 10))
    return longest * (0.5 + 0.5 * draw)


class HealthMonitor:
    """A task that checks unhealthy replicas, and sleeps while there are none."""

    def __init__(
        self,
        replicas: Sequence[Replica[ServerLike]],
        *,
        role: str,
        on_wait: Callable[[str | None], None],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self.expected: EngineInfo | None = None  # a replica that recovers with less stays out
        self._replicas = replicas
        self._role = role
        self._on_wait = on_wait
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._down_since: float | None = None  # time since no replica is healthy
        self._reported = False
        self._rounds = 0  # rounds of checks since a failed replica served again
        self._trouble = asyncio.Event()
        self._round_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name=f"{self._role}-health")

    async def stop(self) -> None:
        """Stop the task; raises the error that ended it, if any."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        (ending,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ending, Exception):
            raise ending

    def leave(
        self, replica: Replica[ServerLike], reason: str, *, misconfigured: bool = False
    ) -> None:
        """Send no requests to ``replica`` until it recovers."""
        replica.trouble, replica.misconfigured = reason, misconfigured
        if not replica.healthy:
            return
        replica.healthy, replica.doubtful = False, True
        log.warning("%s: %s failed; retrying: %s", self._role, replica.name, reason)
        if self._down_since is None and not any(r.healthy for r in self._replicas):
            self._down_since = self._clock()
        self._trouble.set()

    def served(self, replica: Replica[ServerLike]) -> None:
        """Record a reply of ``replica``."""
        replica.served += 1
        replica.failures = 0
        if replica.doubtful and replica.healthy:
            replica.doubtful = False
            self._rounds = 0

    async def next_round(self) -> None:
        """Wait until all failed replicas have been checked again."""
        if self._task is None:
            raise RuntimeError("a pool serves only inside `async with Pool(…)`")
        if not self._task.done():  # a task that has ended runs no more rounds
            await self._round_over.wait()
        if self._task is None or self._task.done():
            raise EngineUnavailable(f"{self._role}: closed while waiting for a server")

    async def _run(self) -> None:
        try:
            while True:
                await self._trouble.wait()
                self._report()
                self._rounds += 1
                await self._sleep(backoff(self._rounds, self._draw()))
                async with asyncio.TaskGroup() as checks:
                    for replica in self._replicas:
                        if not replica.healthy:
                            checks.create_task(self._check(replica))
                healthy = [replica.healthy for replica in self._replicas]
                if all(healthy):
                    self._trouble.clear()
                if any(healthy):
                    self._down_since = None
                self._report()
                self._end_round()
        finally:
            self._end_round()

    def _end_round(self) -> None:
        self._round_over.set()
        self._round_over = asyncio.Event()

    async def _check(self, replica: Replica[ServerLike]) -> None:
        info, problem, misconfigured, bug = None, None, False, None
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                info = await replica.check()
            if info is not None and self.expected is not None:
                problem = unusable(info, self.expected)
        except (EngineError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            misconfigured = isinstance(error, EngineMisconfigured)
        except Exception as error:  # a bug in one engine must not end the checks of the others
            problem, bug = f"its check failed: {error!r}", error
        replica.misconfigured = misconfigured
        if problem is not None:
            if problem != replica.trouble:
                name = f"{self._role}: {replica.name}"
                log.warning("%s still fails: %s", name, problem, exc_info=bug)
            replica.trouble = problem
        elif info is not None:
            replica.info = info
            replica.healthy, replica.failures = True, 0
            log.warning("%s: %s answers again", self._role, replica.name)

    def _report(self) -> None:
        if self._down_since is not None:
            seconds = self._clock() - self._down_since
            self._on_wait(f"{self._role}: no server answers; waiting ({seconds:.0f} s)…")
            self._reported = True
        elif self._reported:
            self._on_wait(None)
            self._reported = False
