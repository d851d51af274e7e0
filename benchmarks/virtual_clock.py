"""A virtual clock: policies for a thousand samples measured on few cores, without sockets."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.simulated_pair import SimulatedPair
from benchmarks.simulated_server import CAPACITY_TOKENS, CONTEXT_TOKENS, MODEL
from tessy.boundary.base import BoundaryPredictor, Prediction, PredictionRequest
from tessy.boundary.classifier.predictor import MAX_BATCH, MAX_WAIT_MS
from tessy.core.errors import EngineRefused
from tessy.core.records import Author, Failure, Key, Trajectory
from tessy.inference.base import Chunk, ChunkSink, EngineInfo, Request, ScoredToken
from tessy.storage.run_dir import Run

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that advances the time instead of waiting for timers."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.freezes = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.freezes or timeout is None:
            return super().select(None)  # woken from outside the loop
        self.now += timeout
        return []

    if TYPE_CHECKING:

        def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey: ...


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when it is idle."""

    def __init__(self) -> None:
        """Start at time 0."""
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._jumping.now

    @contextlib.contextmanager
    def frozen_time(self) -> Generator[None, None, None]:
        """Stop the time while waiting for something outside the loop."""
        self._jumping.freezes += 1
        try:
            yield
        finally:
            self._jumping.freezes -= 1


def frozen_time() -> contextlib.AbstractContextManager[None]:
    """Stop the time of the running loop if it is virtual."""
    loop = asyncio.get_running_loop()
    return loop.frozen_time() if isinstance(loop, VirtualLoop) else contextlib.nullcontext()


class FrozenTimeSink:
    """Writes rows into a run without advancing the virtual time."""

    def __init__(self, run: Run[Key]) -> None:
        self._run = run

    async def append(self, row: Trajectory) -> None:
        """Append a finished row."""
        with frozen_time():
            await self._run.append(row)

    async def append_failure(self, row: Failure) -> None:
        """Append a failure."""
        with frozen_time():
            await self._run.append_failure(row)


class SimulatedEngine:
    """A simulated server in this process, as an :class:`~tessy.inference.base.Engine`."""

    def __init__(self, pair: SimulatedPair, author: Author, *, streaming: bool = True) -> None:
        """Serve ``author`` by ``pair``; without streaming a reply is one chunk."""
        self._pair, self._author, self._streaming = pair, author, streaming

    async def probe(self) -> EngineInfo:
        """Return the probe of the server over HTTP."""
        return EngineInfo(
            model=MODEL,
            mode="generate",
            context_tokens=CONTEXT_TOKENS,
            capacity_tokens=CAPACITY_TOKENS,
            prefix_caching=True,
            streaming=self._streaming,
        )

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Continue ``request.prompt``; a chunk holds all tokens since the last one."""
        written: list[int] = []
        ended: list[str] = []
        arrived = asyncio.Event()

        def on_token(token: int, finish: str | None) -> None:
            written.append(token)
            if finish is not None:
                ended.append(finish)
            arrived.set()

        abort = self._pair.start(
            self._author,
            request.key,
            request.prompt.ids,
            limit=request.max_tokens,
            ignore_eos=False,
            on_token=on_token,
        )
        sink.on_close = arrived.set
        try:
            while True:
                await arrived.wait()
                arrived.clear()
                if sink.closed:
                    return
                if not (self._streaming or ended):
                    continue
                ids = tuple(written)
                written.clear()
                if not ended:
                    sink.put(Chunk(ids))
                elif ended[0] == "stop":
                    sink.put(Chunk(ids[:-1], "stop", ids[-1]))
                    return
                else:
                    sink.put(Chunk(ids, "length"))
                    return
        finally:
            sink.on_close = None
            abort()

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = 20
    ) -> list[ScoredToken]:
        """Refuse: scores are not simulated."""
        raise EngineRefused(f"{key}: simulated servers do not score texts")

    def release(self, key: str) -> None:
        """No-op: nothing is cached."""

    async def aclose(self) -> None:
        """No-op: nothing is open."""


@dataclass
class QueuedPredictor:
    """A predictor with the queue of a token classifier, on the event loop's clock.

    Attributes:
        inner: A predictor without delay.
        delay_seconds: Duration of a batch; batches run one after the other.
        max_batch: Maximum requests of a batch.
        max_wait_seconds: Wait for more requests before a batch if the last one had several.
    """

    inner: BoundaryPredictor
    delay_seconds: float
    max_batch: int = MAX_BATCH
    max_wait_seconds: float = MAX_WAIT_MS / 1000
    _inbox: deque[asyncio.Future[None]] = field(default_factory=deque)
    _busy: bool = False
    _several: bool = False

    def __post_init__(self) -> None:
        """Copy the kind of the inner predictor."""
        self.name = self.inner.name
        self.sees_next, self.lookahead = self.inner.sees_next, self.inner.lookahead

    async def predict(self, request: PredictionRequest) -> Prediction:
        """Return the prediction when its batch is done."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.append(turn)
        if not self._busy:
            self._next()
        await turn
        return await self.inner.predict(request)

    def release(self, key: str) -> None:
        """Delegate."""
        self.inner.release(key)

    async def aclose(self) -> None:
        """Delegate."""
        await self.inner.aclose()

    def _next(self) -> None:
        self._busy = bool(self._inbox) or self._several
        if not self._busy:
            return
        wait = self._several and len(self._inbox) < self.max_batch
        loop = asyncio.get_running_loop()
        loop.call_later(self.max_wait_seconds if wait else 0.0, self._begin)

    def _begin(self) -> None:
        count = min(self.max_batch, len(self._inbox))
        batch = [self._inbox.popleft() for _ in range(count)]
        self._several = count > 1
        if not batch:
            self._busy = False
            return
        asyncio.get_running_loop().call_later(self.delay_seconds, self._finish, batch)

    def _finish(self, batch: list[asyncio.Future[None]]) -> None:
        for turn in batch:
            if not turn.done():
                turn.set_result(None)
        self._next()
