"""Requests to the in-process engine, and their results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

from tessy.inference.base import Chunk, Request, Sampling
from tessy.inference.local.engine import LocalEngine
from tessy.tokenization.token_ids import TokenIds
from tests.support.engine_streams import iterate
from tests.support.tiny_causal import GREEDY


def request(
    key: str = "a",
    prompt: Sequence[int] = (1, 2, 3),
    count: int = 12,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    stop: Sequence[int] = (),
) -> Request:
    return Request(key, TokenIds(prompt), sampling, count, tuple(stop), seed)


async def until(condition: Callable[[], object]) -> None:
    """Poll until the worker thread has reached ``condition``."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def collect(engine: LocalEngine, sent: Request) -> tuple[list[int], Chunk]:
    """Return all ids of a stream, and its last chunk."""
    ids: list[int] = []
    last = Chunk(())
    async with aclosing(iterate(engine, sent)) as stream:
        async for chunk in stream:
            ids += chunk.ids
            last = chunk
    return ids, last


async def ids_of(engine: LocalEngine, sent: Request) -> list[int]:
    return (await collect(engine, sent))[0]
