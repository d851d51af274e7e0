"""The replicas of one role as one engine.

A stream that breaks is continued where it broke, so callers see every id once and no failure that
passes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from tessy.engines.base import Chunk, Engine, Request
from tessy.engines.failover import Course, Failover
from tessy.errors import (
    EngineError,
    EngineMisconfigured,
    EngineRefused,
    EngineUnavailable,
    SampleFailed,
)
from tessy.seeds import derive_seed


@dataclass(slots=True, kw_only=True)
class _Stream(Course):
    """A stream on its way through failures.

    Attributes:
        request: As the caller made it.
        delivered: Ids the caller has.
    """

    request: Request
    delivered: list[int]

    def rest(self) -> Request:
        """What is still to be generated."""
        if not self.delivered:
            return self.request
        return replace(
            self.request,
            prompt=self.request.prompt.plus(self.delivered),
            max_tokens=self.request.max_tokens - len(self.delivered),
            seed=derive_seed(self.request.seed, "resumed", len(self.delivered)),
        )


class Pool(Failover[Engine]):
    """Replicas of one role behind the engine protocol; use it as ``async with Pool(…) as pool``."""

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Continue ``request.prompt`` on the sample's replica, or on another one if that fails.

        Raises:
            EngineUnavailable: Nothing came from any replica for longer than the patience.
            EngineMisconfigured: No request can work, on no replica.
            SampleFailed: ``refused``: the server will not serve this request. ``server_error``:
                it fails again and again while others are served.
        """
        course = _Stream(key=request.key, request=request, delivered=[])
        while len(course.delivered) < request.max_tokens:
            replica = await self._next(course)
            chunks = replica.engine.stream(course.rest())
            try:
                while True:
                    try:
                        chunk = await anext(chunks)
                    except StopAsyncIteration:
                        fault = EngineUnavailable(f"{replica.name}: the stream ended unfinished")
                        break
                    except EngineUnavailable as error:
                        fault = error
                        break
                    except EngineMisconfigured as error:
                        fault = self._misconfigured(replica, error)
                        break
                    except EngineRefused as error:
                        raise SampleFailed("refused", str(error)) from error
                    if chunk.ids or chunk.finish is not None:
                        course.delivered += chunk.ids
                        self._served(replica, course)
                    yield chunk
                    if chunk.finish is not None:
                        return
            finally:
                with contextlib.suppress(EngineError):
                    await chunks.aclose()
            await self._failed(replica, course, fault)
        yield Chunk((), "length")
