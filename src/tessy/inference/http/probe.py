"""Probe of a model server: its capabilities and its wire format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tessy.core.errors import (
    ConfigError,
    EngineError,
    EngineMisconfigured,
    EngineRefused,
    EngineUnavailable,
)
from tessy.inference.base import ChunkSink, EngineInfo, Request, Sampling
from tessy.inference.http.client import (
    ReplyWithoutIds,
    ServerClient,
    UnusableReply,
    model_cards,
)
from tessy.inference.http.doubts import Doubts
from tessy.inference.http.faults import is_temporary
from tessy.inference.http.metrics import CacheFacts, sglang_facts, vllm_facts
from tessy.inference.http.wires.base import Wire
from tessy.inference.http.wires.completions import CompletionsWire
from tessy.inference.http.wires.sglang import SglangWire
from tessy.inference.http.wires.text import TextWire
from tessy.inference.http.wires.vllm_generate import GenerateWire
from tessy.tokenization.token_ids import Codec, TokenIds

WIRES = ("generate", "sglang", "completions", "text")

Candidate = tuple[Wire, bool]  # a wire format, and whether streaming is requested

_CACHE_PROBE_TOKENS = 512  # several blocks of any server's cache


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """The result of a probe."""

    wire: Wire
    info: EngineInfo
    engines: int  # behind this address, each with its own cache


class ServerProbe:
    """One probe of one server; ``wire`` restricts it to one of :data:`WIRES`."""

    def __init__(
        self, server: ServerClient, model: str, codec: Codec, *, wire: str | None, streaming: bool
    ) -> None:
        if wire is not None and wire not in WIRES:
            raise ConfigError(f"no wire format is called {wire!r}; there are {', '.join(WIRES)}")
        self._server = server
        self._model = model
        self._codec = codec
        self._wanted = wire
        self._streaming = streaming
        self._notes: list[str] = []
        self._faults: list[tuple[Wire, EngineError]] = []  # of the wires that did not work
        self._doubts = Doubts()

    async def run(self) -> ServerCapabilities:
        """Probe the server; see :class:`ServerLike` for errors."""
        card = await self._model_card()
        info = await self._sglang_info(card)
        wire, streaming = await self._best_that_works(self._candidates(info))
        card = card or await self._model_card()  # now that the server works
        if not card:
            self._notes.append("The server lists no models, so the model's name was not checked.")
        self._note_choice(wire, card)
        is_vllm = card.get("owned_by") == "vllm"
        facts = sglang_facts(info) if info is not None else await self._vllm_facts(known=is_vllm)
        context = _positive(card.get("max_model_len")) or _positive(
            (info or {}).get("context_length")
        )
        caching = facts.prefix_caching
        if caching is None:
            caching = await self._caches_prefixes(wire, context)
        found = EngineInfo(
            model=self._model,
            mode=wire.mode,
            context_tokens=context,
            capacity_tokens=facts.capacity_tokens,
            prefix_caching=caching,
            streaming=streaming,
            notes=(*self._notes, *wire.notes, *facts.notes),
        )
        return ServerCapabilities(wire, found, facts.engines)

    async def _model_card(self) -> dict[str, Any]:
        """Return the server's entry for our model; empty if it lists no models."""
        try:
            cards = await self._doubts.repeat(self._list_models)
        except UnusableReply:
            cards = None
        if cards is None:
            return {}
        if self._model not in cards:
            raise EngineMisconfigured(
                f"{self._server.root} does not serve {self._model!r}; "
                f"it serves {', '.join(map(repr, cards)) or 'nothing'}"
            )
        return cards[self._model]

    async def _list_models(self) -> dict[str, dict[str, Any]] | None:
        listing = await self._server.look_up_json("/v1/models")
        if listing is None:
            return None
        cards = model_cards(listing)
        if cards is None:
            raise UnusableReply(f"{self._server.root}/v1/models: no list of models")
        return cards

    async def _sglang_info(self, card: dict[str, Any]) -> dict[str, Any] | None:
        """Return SGLang's server info; None if this is another server."""
        if card.get("owned_by") == "vllm":
            return None
        for path in ("/get_server_info", "/server_info", "/get_model_info"):
            try:
                info = await self._doubts.repeat(partial(self._server.look_up_json, path))
            except EngineUnavailable as fault:
                if not Doubts.about(fault):
                    raise
                continue  # some servers answer 200 or 500 for every path
            if info is not None and "model_path" in info and "tokenizer_path" in info:
                return info
        return None

    def _candidates(self, sglang: dict[str, Any] | None) -> list[Wire]:
        wires: list[Wire] = [
            GenerateWire(self._model),
            SglangWire(),
            SglangWire(seeds=False),
            CompletionsWire(self._model),
            TextWire(self._model, self._codec),
            TextWire(self._model, self._codec, plain=True),
        ]
        if self._wanted is not None:
            return [wire for wire in wires if wire.mode == self._wanted]
        other = "generate" if sglang is not None else "sglang"
        return [wire for wire in wires if wire.mode != other]

    async def _best_that_works(self, wires: Sequence[Wire]) -> tuple[Wire, bool]:
        """Return the first wire that works, and whether it streams.

        A wire is given up if the server does not offer it. One that fails in another way is tried
        again as long as there are doubts, also if a later one works: the failure may pass.
        """
        doubts = Doubts()  # as many as without doubts about other pages
        left = [(wire, streaming) for streaming in self._streamings for wire in wires]
        while True:
            doubtful: list[tuple[Candidate, EngineUnavailable]] = []
            works: tuple[Wire, bool] | None = None
            for wire, streaming in left:
                try:
                    streamed = await self._try(wire, streaming=streaming)
                except EngineUnavailable as fault:
                    if not Doubts.about(fault):
                        raise
                    doubtful.append(((wire, streaming), fault))
                    continue
                if streamed is not None:
                    works = wire, streamed
                    left = [*(candidate for candidate, _ in doubtful), (wire, streaming)]
                    break
            else:
                left = [candidate for candidate, _ in doubtful]
            if works is not None and not doubtful:
                return works
            if not left or not await doubts.wait():
                self._faults += [(wire, fault) for (wire, _), fault in doubtful]
                if works is None:
                    raise await self._nothing_works()
                self._note_doubts(works[0], doubtful)
                return works

    @property
    def _streamings(self) -> tuple[bool, ...]:
        return (True, False) if self._streaming else (False,)

    async def _try(self, wire: Wire, *, streaming: bool) -> bool | None:
        """Request one token; return whether it was streamed, None if the server refuses the wire.

        Raises EngineUnavailable for all other failures.
        """
        request = self._request(self._codec.encode("Hello") or [0])
        try:
            body = wire.body(request, stream=streaming)
            return await self._server.generate(
                wire.path, body, {}, reader=wire.reader(request), sink=ChunkSink(lambda _: None)
            )
        except (EngineRefused, ReplyWithoutIds) as fault:
            self._faults.append((wire, fault))
        except EngineMisconfigured as fault:
            if fault.status in (None, 401):
                raise
            self._faults.append((wire, fault))
        return None

    def _request(self, ids: list[int]) -> Request:
        return Request(
            key="tessy-probe",
            prompt=TokenIds(ids),
            sampling=Sampling(),
            max_tokens=1,
            stop_ids=tuple(sorted(self._codec.control_ids)[:1]),
            seed=0,
        )

    async def _nothing_works(self) -> EngineError:
        """Return why no wire works, in one error."""
        for _, fault in self._faults:
            if isinstance(fault, EngineUnavailable) and is_temporary(fault.status):
                return fault  # it may pass
        if self._wanted in (None, "text") and await self._is_chat_only():
            return EngineMisconfigured(
                f"{self._server.root} offers only the chat endpoint, which cannot continue in "
                "mid-thought: it wraps every text in a chat template of its own. Use a server with "
                "/v1/completions (vLLM, SGLang, llama.cpp)"
            )
        reasons = "\n".join(
            f"  {fault}" for fault in dict.fromkeys(str(fault) for _, fault in self._faults)
        )
        return EngineMisconfigured(
            f"{self._server.root} cannot continue a text for {self._model!r}:\n{reasons}"
        )

    async def _is_chat_only(self) -> bool:
        if not self._statuses(TextWire.path) & {404, 405, 501}:
            return False
        body = json.dumps({"model": self._model, "messages": [], "max_tokens": 1}).encode()
        try:
            response = await self._server.post("/v1/chat/completions", body, {})
        except EngineMisconfigured:
            return False
        except EngineError:
            return True  # the endpoint exists, and rejects an empty conversation
        response.close()
        return True

    def _statuses(self, path: str) -> set[int | None]:
        """Return the statuses at ``path`` that every request fails with."""
        return {
            fault.status
            for wire, fault in self._faults
            if wire.path == path and isinstance(fault, EngineMisconfigured)
        }

    def _note_doubts(
        self, works: Wire, doubtful: Sequence[tuple[Candidate, EngineUnavailable]]
    ) -> None:
        reasons = {wire.path: fault for (wire, _), fault in doubtful if wire.mode != works.mode}
        for path, reason in reasons.items():
            self._notes.append(
                f"{path} failed again and again while {works.path} worked ({works.mode}), so it is "
                f"not used: {reason}"
            )

    def _note_choice(self, wire: Wire, card: dict[str, Any]) -> None:
        """Note what a cheaper wire format requires; refuse a vLLM without token ids."""
        if wire.mode == "generate" or self._wanted is not None:
            return
        is_vllm = card.get("owned_by") == "vllm"
        failing = {
            wire.mode: fault
            for wire, fault in self._faults
            if isinstance(fault, EngineUnavailable) and not isinstance(fault, ReplyWithoutIds)
        }
        if wire.mode == "text" and is_vllm:
            if "completions" in failing:
                raise failing["completions"]
            raise EngineMisconfigured(
                f"{self._server.root} is a vLLM that returns no token ids; update it to vLLM "
                "0.10.2 or later"
            )
        if 403 in self._statuses(GenerateWire.path):
            self._notes.append(
                "Start vLLM with --enable-scale-out: its /inference/v1/generate costs the server "
                "a third of the work per request at long contexts."
            )
        elif is_vllm and "generate" not in failing:
            self._notes.append(
                "This vLLM has no /inference/v1/generate; a newer one (0.32, with "
                "--enable-scale-out) does less work per request at long contexts."
            )

    async def _vllm_facts(self, *, known: bool) -> CacheFacts:
        """Return the figures at ``/metrics``; a server ``known`` to be vLLM has some."""

        async def look_up() -> CacheFacts:
            facts = vllm_facts(await self._server.look_up("/metrics"))
            if known and facts == CacheFacts():
                raise UnusableReply(f"{self._server.root}/metrics: no figures of the KV cache")
            return facts

        try:
            facts = await self._doubts.repeat(look_up, every=True)
        except EngineError:
            facts = CacheFacts()
        if facts.capacity_tokens is None:
            self._notes.append(
                "The server does not report how many tokens its KV cache holds, so the number of "
                "samples in flight is bounded by --concurrency only."
            )
        return facts

    async def _caches_prefixes(self, wire: Wire, context: int | None) -> bool | None:
        """Return whether a repeated prompt is read from cache; None if it is not reported."""
        filler = self._codec.encode("The quick brown fox jumps over the lazy dog. ") or [0]
        size = min(_CACHE_PROBE_TOKENS, (context or 1024) // 2)
        prompt = (filler * (size // len(filler) + 1))[:size]
        body = wire.body(self._request(prompt), stream=False)
        send = partial(self._server.post_for_json, wire.path, body, {})
        cached: int | None = None
        for _ in range(2):
            try:
                cached = _cached_tokens(await self._doubts.repeat(send, every=True))
            except EngineError:
                return None
            if cached is None:
                return None
        return bool(cached)


def _cached_tokens(reply: dict[str, Any]) -> int | None:
    meta, usage = reply.get("meta_info"), reply.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    for holder in (meta, details):
        count = holder.get("cached_tokens") if isinstance(holder, dict) else None
        if type(count) is int:
            return count
    return None


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
