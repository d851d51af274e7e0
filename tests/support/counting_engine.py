"""An engine that counts and fails on demand, and a simulated clock."""

import asyncio
import errno
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from tessy.core.errors import EngineUnavailable
from tessy.inference.base import Chunk, EngineInfo, Request, Sampling, ScoredToken
from tessy.inference.pool.pool import ReplicaPool
from tessy.tokenization.token_ids import TokenIds
from tests.support.engine_streams import GeneratorEngine, iterate

STOP = 99


class Time:
    """A clock that advances only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def refused() -> EngineUnavailable:
    error = EngineUnavailable("connection refused")
    error.__cause__ = OSError(errno.ECONNREFUSED, "refused")
    return error


@dataclass
class Server(GeneratorEngine):
    """Generates the ids after the last id of the prompt up to 9, then stops.

    Attributes:
        down: Whether every request is refused.
        faults: Errors of the next requests, each after a number of ids; None for no error.
        poison: Errors of requests by key.
        broken: Error of probes.
    """

    down: bool = False
    faults: list[tuple[int, Exception | None]] = field(default_factory=list)
    poison: dict[str, Exception] = field(default_factory=dict)
    broken: Exception | None = None
    info: EngineInfo = field(default_factory=lambda: EngineInfo("m", "generate", 100, 1000, True))
    seen: list[Request] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    open: int = 0
    closed: bool = False
    probes: int = 0

    async def probe(self) -> EngineInfo:
        self.probes += 1
        await asyncio.sleep(0)
        if self.down:
            raise refused()
        if self.broken is not None:
            raise self.broken
        return self.info

    async def chunks(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.seen.append(request)
        self.open += 1
        try:
            await asyncio.sleep(0)
            if self.down:
                raise refused()
            if request.key in self.poison:
                raise self.poison[request.key]
            after, fault = self.faults.pop(0) if self.faults else (0, None)
            last = request.prompt.ids[-1]
            for count, token_id in enumerate(range(last + 1, 10)):
                if fault is not None and count == after:
                    raise fault
                if count == request.max_tokens:
                    yield Chunk((), "length")
                    return
                yield Chunk((token_id,))
                await asyncio.sleep(0)
            if fault is not None:
                raise fault
            yield Chunk((), "stop", STOP)
        finally:
            self.open -= 1

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = 20
    ) -> list[ScoredToken]:
        raise NotImplementedError  # these tests only stream

    def release(self, key: str) -> None:
        self.released.append(key)

    async def aclose(self) -> None:
        self.closed = True


class ServerWithHealth(Server):
    """A server whose health checks succeed even while it is down."""

    well = True

    async def health(self) -> bool:
        await asyncio.sleep(0)
        return self.well


def pool_of(*servers: Server, time: Time | None = None, **options) -> ReplicaPool:
    time = time or Time()
    names = [f"s{index}" for index in range(len(servers))]
    options.setdefault("role", "teacher")
    return ReplicaPool(servers, names, clock=time, sleep=time.sleep, draw=lambda: 0.5, **options)


def make_request(key: str = "a/0", *, start: int = 0, max_tokens: int = 50) -> Request:
    return Request(key, TokenIds([start]), Sampling(), max_tokens, (STOP,), seed=7)


async def collect(pool: ReplicaPool, request: Request) -> tuple[list[int], Chunk]:
    ids: list[int] = []
    async with aclosing(iterate(pool, request)) as chunks:
        async for chunk in chunks:
            ids += chunk.ids
            last = chunk
    return ids, Chunk((), last.finish, last.stop_id)  # the size of the last chunk is random


async def until(condition: Callable[[], bool]) -> None:
    """Run other tasks until ``condition`` holds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition did not become true")


WHOLE = (list(range(1, 10)), Chunk((), "stop", STOP))
