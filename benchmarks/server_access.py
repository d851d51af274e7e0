"""Access of clients to the servers: over HTTP, or in this process on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from benchmarks.latency import Totals
from benchmarks.simulated_pair import SimulatedPair
from benchmarks.simulated_server import MODEL, Running
from benchmarks.virtual_clock import SimulatedEngine
from tessy.core.records import Author
from tessy.inference.base import Engine
from tessy.inference.http.engine import HttpEngine
from tessy.tokenization.codec import HfCodec

SIDES: tuple[Author, Author] = ("teacher", "student")
SAMPLING: dict[str, float] = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}  # tessy's own defaults


@dataclass(frozen=True, slots=True)
class Completion:
    """A complete reply.

    Attributes:
        text: Text without the stop token.
        tokens: Generated tokens, including the stop token.
        ended: Whether it ended by a stop token.
    """

    text: str
    tokens: int
    ended: bool


class Servers(Protocol):
    """Both servers, as clients use them."""

    def engine(self, author: Author, codec: HfCodec, *, streaming: bool) -> Engine:
        """Return a new engine for tessy."""
        ...

    async def complete(
        self,
        author: Author,
        key: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        ignore_eos: bool = False,
    ) -> Completion:
        """Return a complete reply; used by the other clients."""
        ...

    async def totals(self) -> tuple[dict[Author, Totals], dict[str, float]]:
        """Return the totals of each server, and the CPU seconds of their processes by name."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class VirtualServers:
    """Simulated servers in this process."""

    def __init__(self, pair: SimulatedPair) -> None:
        """Use the servers ``pair``."""
        self._pair = pair

    def engine(self, author: Author, codec: HfCodec, *, streaming: bool) -> Engine:
        """Return a new engine for tessy."""
        return SimulatedEngine(self._pair, author, streaming=streaming)

    async def complete(
        self,
        author: Author,
        key: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        ignore_eos: bool = False,
    ) -> Completion:
        """Return the complete reply."""
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        ids: list[int] = []

        def on_token(token: int, finish: str | None) -> None:
            ids.append(token)
            if finish is not None and not ended.done():
                ended.set_result(finish)

        abort = self._pair.start(
            author, key, prompt, limit=max_tokens, ignore_eos=ignore_eos, on_token=on_token
        )
        try:
            stopped = await ended == "stop"
        finally:
            abort()
        shown = ids[:-1] if stopped else ids
        return Completion("".join(map(self._pair.spell, shown)), len(ids), stopped)

    async def totals(self) -> tuple[dict[Author, Totals], dict[str, float]]:
        """Return the totals of each server; its CPU time counts as the client's."""
        return self._pair.totals(), {}

    async def aclose(self) -> None:
        """No-op: nothing is open."""


class HttpServers:
    """Servers over HTTP, with vLLM's endpoints."""

    def __init__(
        self,
        urls: dict[Author, str],
        models: dict[Author, str] | None = None,
        sampling: Mapping[str, Any] = SAMPLING,
    ) -> None:
        """Use the servers at ``urls``.

        Args:
            urls: URLs by role.
            models: Model names by role; by default those of simulated servers.
            sampling: Sampling options of :meth:`complete`.
        """
        self.urls = urls
        self._sampling = sampling
        self._models = models or dict.fromkeys(SIDES, MODEL)
        self._session: aiohttp.ClientSession | None = None

    def engine(self, author: Author, codec: HfCodec, *, streaming: bool) -> Engine:
        """Return a new engine for tessy."""
        return HttpEngine(self.urls[author], self._models[author], codec, streaming=streaming)

    async def complete(
        self,
        author: Author,
        key: str,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        ignore_eos: bool = False,
    ) -> Completion:
        """Return the complete reply."""
        body = {
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "max_tokens": max_tokens,
            "ignore_eos": ignore_eos,
            **self._sampling,
            "add_special_tokens": False,
        }
        reply = await self.post(author, key, "/v1/completions", body)
        choice = reply["choices"][0]
        tokens = reply["usage"]["completion_tokens"]
        return Completion(choice["text"], tokens, choice["finish_reason"] == "stop")

    async def post(
        self, author: Author, key: str, path: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the JSON reply to ``body`` with the model's name added."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        url, headers = self.urls[author] + path, {"X-Session-ID": key}
        named = {"model": self._models[author], **body}
        for last in (False, True):
            try:
                async with self._session.post(url, json=named, headers=headers) as response:
                    response.raise_for_status()
                    reply: dict[str, Any] = await response.json()
                    return reply
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # Most likely an idle connection that the server closed.
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    async def totals(self) -> tuple[dict[Author, Totals], dict[str, float]]:
        """Return the totals of each server, and the CPU seconds of their process."""
        totals, cpu_seconds = await asyncio.to_thread(Running(self.urls).totals)
        return totals, {"servers": cpu_seconds}

    async def aclose(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
