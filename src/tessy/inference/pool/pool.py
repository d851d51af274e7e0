"""The replicas of one role as one engine; a stream that breaks is continued where it broke."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from tessy.core.errors import EngineMisconfigured, EngineRefused, EngineUnavailable, SampleFailed
from tessy.core.seeds import derive_seed
from tessy.inference.base import (
    TOP_LOGPROBS,
    Chunk,
    ChunkSink,
    Engine,
    Request,
    ScoredToken,
    ServerCounters,
    leave_when_closed,
)
from tessy.inference.pool.replica import Replica
from tessy.inference.pool.retry import Failover, RetryState

_FIRST_COMPARISON_SECONDS = 0.5
_LONGEST_COMPARISON_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class _Stream(RetryState):
    """State of a stream across failures."""

    request: Request
    delivered: list[int]  # ids the caller has
    serving: bool = False  # the replica of this try has sent a chunk
    finished: bool = False  # the last chunk was delivered

    def remaining_request(self) -> Request:
        """Return the request for the remaining tokens."""
        if not self.delivered:
            return self.request
        return replace(
            self.request,
            prompt=self.request.prompt.plus(self.delivered),
            max_tokens=self.request.max_tokens - len(self.delivered),
            seed=derive_seed(self.request.seed, "resumed", len(self.delivered)),
        )


class ReplicaPool(Failover[Engine]):
    """Replicas of one role behind the engine protocol; use it as ``async with Pool(…) as pool``."""

    _counted: list[ServerCounters | None] | None = None
    _comparing: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """End the tasks and close every replica."""
        await self._stop_comparing()
        await super().aclose()

    async def start_counting(self) -> None:
        """Read the servers' counters; call it before the first request.

        From now on the estimates of unseen tokens are corrected by these counters.
        """
        self._counted = await asyncio.gather(*(r.counters() for r in self._replicas))
        for replica in self._replicas:
            replica.begin_count()
        self._comparing = asyncio.create_task(self._compare())

    async def counted_tokens(self) -> int | None:
        """Return the tokens that the servers have generated since :meth:`start_counting`.

        None if a server has no counters, was restarted, or has served requests that are not ours.
        """
        await self._stop_comparing()
        counts = await self._generated()
        known = [tokens for tokens in counts if tokens is not None]
        return sum(known) if len(known) == len(self._replicas) else None

    async def _generated(self) -> list[int | None]:
        """Return each server's generated tokens since :meth:`start_counting`; None if unknown."""
        after = await asyncio.gather(*(r.counters() for r in self._replicas))
        counts: list[int | None] = []
        for replica, first, last in zip(self._replicas, self._counted or (), after, strict=True):
            tokens = None
            # A request that was closed at once may have missed its server.
            if first is not None and last is not None:
                requests = last.requests - first.requests
                if replica.begun <= requests <= replica.requests:
                    tokens = last.tokens - first.tokens
            counts.append(tokens)
        return counts

    async def _compare(self) -> None:
        """Compare the counts at growing intervals."""
        wait = _FIRST_COMPARISON_SECONDS
        while True:
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_COMPARISON_SECONDS)
            counts = await self._generated()
            for replica, tokens in zip(self._replicas, counts, strict=True):
                if tokens is not None:
                    replica.compare_count(tokens)

    async def _stop_comparing(self) -> None:
        task, self._comparing = self._comparing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Continue ``request.prompt`` on the sample's replica, or on another one if that fails.

        Raises:
            EngineUnavailable: Nothing came from any replica for longer than the patience.
            EngineMisconfigured: No request can work, on no replica.
            SampleFailed: ``refused`` by the server, or a ``server_error`` that repeats while others
                are served.
        """
        state = _Stream(key=request.key, request=request, delivered=[])
        while len(state.delivered) < request.max_tokens and not sink.closed:
            replica = self._next_at_once(state)
            if replica is None:
                with leave_when_closed(sink):
                    replica = await self._next(state)
            if replica is None or sink.closed:
                return
            fault = await self._try(replica, state, sink)
            if state.finished or sink.closed:
                return  # failures after the end do not matter
            if isinstance(fault, EngineRefused):
                raise SampleFailed("refused", str(fault)) from fault
            if isinstance(fault, EngineMisconfigured):
                fault = self._misconfigured(replica, fault)
            with leave_when_closed(sink):
                await self._failed(replica, state, fault)
        if not sink.closed:
            sink.put(Chunk((), "length"))

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = TOP_LOGPROBS
    ) -> list[ScoredToken]:
        """Score ``ids[start:]`` on the sample's replica, or another; raises as :meth:`stream`."""
        return await self._retried(
            RetryState(key), lambda engine: engine.score(key, ids, start, top=top)
        )

    async def _try(
        self, replica: Replica[Engine], state: _Stream, sink: ChunkSink
    ) -> EngineUnavailable | EngineMisconfigured | EngineRefused:
        """Send one request; return the error if it did not finish."""
        state.serving = False
        own = ChunkSink(partial(self._forward, replica, state, sink))
        sink.close_also(own)
        try:
            await replica.engine.stream(state.remaining_request(), own)
        except (EngineUnavailable, EngineMisconfigured, EngineRefused) as error:
            return error
        finally:
            sink.on_close = None
        return EngineUnavailable(f"{replica.name}: the stream ended unfinished")

    def _forward(
        self, replica: Replica[Engine], state: _Stream, sink: ChunkSink, chunk: Chunk
    ) -> None:
        if chunk.finish is not None:
            state.finished = True
        if state.serving:
            replica.served += 1
        elif chunk.ids or state.finished:
            state.serving = True
            replica.begun += 1
            self._served(replica, state)
        state.delivered += chunk.ids
        sink.put(chunk)
