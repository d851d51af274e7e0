"""Jobs of the in-process engine, and pure rules for batching them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tessy.core.errors import EngineError, EngineRefused, EngineUnavailable
from tessy.inference.base import Chunk, ChunkSink, Request

MemberT = TypeVar("MemberT")

BATCH_STREAMS = 128  # a pass of a tiny model has the same fixed cost for any number of them
PREFILL_TOKENS = 2048  # of one prompt in one step, so that a long one does not hold up the others


@dataclass(eq=False, slots=True)
class JobState:
    """A sequence of the decoder, kept between the requests of its sample."""

    sequence: Any  # the decoder's own type
    busy: bool = False
    doomed: bool = False  # dropped when its current request ends
    used: int = 0  # the step that used it last


@dataclass(eq=False, slots=True)
class LocalJob:
    """A request in flight.

    The worker sends its chunks to ``loop``, where they are put into ``sink``. ``ended`` is done
    after the last chunk, after an error, or when the sink was closed.
    """

    request: Request
    sink: ChunkSink
    loop: asyncio.AbstractEventLoop
    ended: asyncio.Future[None]
    ids: list[int]  # prompt and output
    state: JobState = field(init=False)  # once it is admitted
    drawn: int = 0
    closed: bool = False  # set in the loop

    def end(self, error: Exception | None = None) -> None:
        """End the stream; the worker takes no further step with it."""
        self.closed = True
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    def deliver(self, item: Chunk | EngineError) -> None:
        """Put a chunk into the sink, or end the stream with an error."""
        if self.ended.done():
            return
        if isinstance(item, EngineError):
            self.end(item)
            return
        try:
            self.sink.put(item)
        except Exception as error:  # must not stop the delivery to other streams
            self.end(error)
        if item.finish is not None:
            self.end()


def model_failure(error: Exception, what: str) -> EngineError:
    """Return the error for callers after a forward pass of ``what`` failed with ``error``."""
    failure: EngineError = EngineRefused(f"{what} failed: {error!r}")
    if "out of memory" in str(error).lower():
        failure = EngineUnavailable(f"{what} ran out of memory: {error}")
    failure.__cause__ = error
    return failure


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many leading ids two lists or arrays share; comparing slices is fast."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    low, high = 0, length  # equal up to `low`, different within `high`
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low


def batches(
    step: Sequence[tuple[MemberT, list[int]]], slack: int
) -> Iterable[list[tuple[MemberT, list[int]]]]:
    """Split a step into forward passes: members of similar length share one.

    A member joins while the padding stays under ``slack`` tokens or a quarter of the pass.
    """
    group: list[tuple[MemberT, list[int]]] = []
    tokens = 0
    for member in sorted(step, key=lambda member: len(member[1])):
        count = len(member[1])
        area = count * (len(group) + 1)
        padding = area - tokens - count
        if group and (padding > max(slack, area // 4) or area > 4 * PREFILL_TOKENS):
            yield group
            group, tokens = [], 0
        group.append(member)
        tokens += count
    if group:
        yield group
