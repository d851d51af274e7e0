"""A model behind an HTTP server: vLLM, SGLang, or anything with OpenAI's ``/v1/completions``.

Nothing is retried here: faults become errors, and the pool of replicas retries.
"""

from __future__ import annotations

import hashlib
import logging
import urllib.parse
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tessy.core.errors import EngineError, EngineRefused
from tessy.inference.base import (
    TOP_LOGPROBS,
    ChunkSink,
    EngineInfo,
    Request,
    ScoredToken,
    ServerCounters,
)
from tessy.inference.http.client import ServerEngine
from tessy.inference.http.metrics import server_counters
from tessy.inference.http.probe import ServerCapabilities, ServerProbe
from tessy.inference.http.prompt_scores import CACHED_PREFIX, WHOLE_PROMPT
from tessy.tokenization.token_ids import Codec

MOST_REFUSALS = 5  # of scores with a cached prefix in a row

log = logging.getLogger(__name__)

_UNSTREAMED_SECONDS_PER_TOKEN = 0.5  # maximum silence of a reply that is not streamed
_SCORING_SECONDS_PER_TOKEN = 0.05  # the reply comes when the whole prompt was read
_LONGEST_SESSION_CHARS = 200
_METRICS_SECONDS = 5.0


class HttpEngine(ServerEngine):
    """An :class:`~tessy.inference.base.Engine` on one server."""

    def __init__(
        self,
        url: str,
        model: str,
        codec: Codec,
        *,
        api_key: str | None = None,
        streaming: bool = True,
        wire: str | None = None,
        stall_seconds: float = 120.0,
    ) -> None:
        """Create an engine; raises ConfigError if the URL, with or without ``/v1``, is unusable.

        ``codec`` is the model's tokenizer. Without ``streaming``, a reply is one chunk. ``wire`` is
        one of :data:`WIRES`; None: the cheapest one that works. A server that is silent for
        ``stall_seconds`` counts as unavailable.
        """
        super().__init__(url, api_key=api_key, stall_seconds=stall_seconds)
        self._model = model
        self._new_probe = partial(
            ServerProbe, self._server, model, codec, wire=wire, streaming=streaming
        )
        self._new_probe()  # raises if there is no such wire format
        self._capabilities: ServerCapabilities | None = None
        self._reports_cached = True  # False once a reply does not report them
        self._refusals = 0  # of scores with a cached prefix, in a row
        self.repeated_requests = 0  # requests for scores that were repeated without the cache

    async def probe(self) -> EngineInfo:
        """Determine the wire format and the capabilities of the server, for later streams.

        Calls at the same time share one probe.
        """
        return (await self._probe_once()).info

    async def _probe_once(self) -> ServerCapabilities:
        before = self._capabilities
        async with self._probing:
            capabilities = self._capabilities
            if capabilities is None or capabilities is before:  # no other call has probed meanwhile
                capabilities = self._capabilities = await self._new_probe().run()
        return capabilities

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Continue ``request.prompt`` into ``sink``; see :func:`status_fault` for errors."""
        capabilities = self._capabilities or await self._probe_once()
        fitted = self._fit(request, capabilities.info)
        streaming = capabilities.info.streaming
        await self._server.generate(
            capabilities.wire.path,
            capabilities.wire.body(fitted, stream=streaming),
            self._affinity(request.key, capabilities.engines),
            reader=capabilities.wire.reader(fitted),
            sink=sink,
            read_seconds=0 if streaming else fitted.max_tokens * _UNSTREAMED_SECONDS_PER_TOKEN,
        )

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = TOP_LOGPROBS
    ) -> list[ScoredToken]:
        """Score ``ids[start:]`` by a vLLM server; others raise EngineRefused.

        A vLLM server that reports the cached tokens of a prompt computes only the others.
        """
        if len(ids) <= start:
            return []
        known = self._capabilities
        headers = self._affinity(key, known.engines if known else 1)
        read_seconds = len(ids) * _SCORING_SECONDS_PER_TOKEN
        generates = known is not None and known.info.mode == "generate"
        cached_prefix = start > 1 and generates and self._reports_cached
        for wire in (CACHED_PREFIX, WHOLE_PROMPT) if cached_prefix else (WHOLE_PROMPT,):
            self.repeated_requests += cached_prefix and not wire.from_cache
            body = wire.body(self._model, ids, top)
            try:
                reply = await self._server.post_for_json(
                    wire.path, body, headers, read_seconds=read_seconds
                )
            except EngineRefused:
                if not wire.from_cache:
                    raise
                # An undefined score may be a value that JSON does not have.
                self._refusals += 1
                if self._refusals == MOST_REFUSALS:
                    self._read_whole_texts("it refuses scores of a text that it has cached")
                continue
            if wire.from_cache:
                self._refusals = 0
            self._server.unseen.receive(1)  # the token that every request generates
            try:
                scores = wire.scores(reply, ids, start, top)
            except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
                raise EngineRefused(
                    f"{self._server.root} returned no log-probabilities for the {len(ids)} prompt "
                    f"tokens of {key}: this needs a vLLM server, or a model in this process"
                ) from error
            if scores is not None:
                return scores
            if wire.cached_tokens(reply) is None and self._reports_cached:
                self._read_whole_texts(
                    "start it with --enable-prompt-tokens-details, so that it reports cached tokens"
                )
        raise AssertionError("the scores of a whole prompt are complete")

    def _read_whole_texts(self, why: str) -> None:
        self._reports_cached = False
        log.warning("%s computes the whole text for every score: %s", self._server.root, why)

    async def counters(self) -> ServerCounters | None:
        """Return what the server has counted so far; None if it has no counters."""
        self._server.unseen.begin_read()
        try:
            return server_counters(await self._server.look_up("/metrics", seconds=_METRICS_SECONDS))
        except EngineError:
            return None

    def begin_count(self) -> None:
        """Start to count received tokens, from the time when :meth:`counters` was read."""
        self._server.unseen.begin_count()

    def compare_count(self, generated: int) -> None:
        """Correct the estimate of unseen tokens by what the server has generated since then."""
        self._server.unseen.compare(generated)

    @staticmethod
    def _fit(request: Request, info: EngineInfo) -> Request:
        """Limit ``request`` to the context: some servers reject longer requests."""
        if info.context_tokens is None:
            return request
        room = info.context_tokens - len(request.prompt)
        if room < 1:
            raise EngineRefused(
                f"a prompt of {len(request.prompt)} tokens leaves no room in the context of "
                f"{info.model!r} ({info.context_tokens} tokens)"
            )
        return request if request.max_tokens <= room else replace(request, max_tokens=room)

    @staticmethod
    def _affinity(key: str, engines: int) -> dict[str, str]:
        """Return headers that route a sample to the server where its prefix is cached."""
        session = urllib.parse.quote(key, safe="/", errors="surrogatepass")
        if len(session) > _LONGEST_SESSION_CHARS:
            session = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        headers = {"X-Session-ID": session}  # hashed by routers
        if engines > 1:  # vLLM's own data parallelism obeys only a rank
            headers["X-data-parallel-rank"] = str(zlib.crc32(session.encode()) % engines)
        return headers
