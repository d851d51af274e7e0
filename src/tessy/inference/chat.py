"""Models behind a chat endpoint: annotators, judges, scorers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessy.core.errors import EngineError, EngineMisconfigured, EngineRefused, EngineUnavailable
from tessy.core.records import Message
from tessy.inference.base import EngineInfo, Sampling
from tessy.inference.http.client import ServerEngine, UnusableReply
from tessy.inference.http.doubts import Doubts
from tessy.inference.http.faults import is_temporary
from tessy.inference.http.wires.base import fit_seed, raise_event_error
from tessy.inference.pool.retry import Failover, RetryState
from tessy.storage import jsonl

log = logging.getLogger(__name__)

_PATH = "/v1/chat/completions"
_SEED_BITS = 31  # accepted by every server
_PROBE_MESSAGES = (Message(role="user", content="Say hello."),)

# Fields beyond OpenAI's original ones that some servers refuse, in the order in which they are
# dropped: servers without thinking templates, without such filters, without guided output.
_FIELDS: dict[str, tuple[str, ...]] = {
    "chat_template_kwargs": ("chat_template_kwargs",),
    "top_k and min_p": ("top_k", "min_p"),
    "response_format": ("response_format",),
}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request to a chat model."""

    key: str  # identifies the request in messages; selects the replica
    messages: Sequence[Message]  # ending with a user turn
    sampling: Sampling
    max_tokens: int  # of the reply
    seed: int  # fixes the draw on servers that honour seeds


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A reply, without thoughts before it."""

    text: str
    truncated: bool  # it reached its token limit


class ChatEngine(ServerEngine):
    """A chat model on one server."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        schema: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        concurrency: int = 32,
        stall_seconds: float = 120.0,
        seconds_per_token: float = 0.5,
    ) -> None:
        """Create a client; raises ConfigError if the URL, with or without ``/v1``, is unusable.

        Servers with guided output make every reply follow ``schema``, a JSON schema. Silence counts
        as a failure after ``stall_seconds``, or ``seconds_per_token`` for each token requested if
        that is longer. At most ``concurrency`` requests are in flight.
        """
        super().__init__(url, api_key=api_key, stall_seconds=stall_seconds)
        self._model = model
        self._schema = schema
        self._seconds_per_token = seconds_per_token
        self._slots = asyncio.Semaphore(concurrency)
        self._refused: frozenset[str] | None = None  # of _FIELDS; None before the first probe

    async def probe(self) -> EngineInfo:
        """Determine which fields the server accepts, with a few short requests."""
        async with self._probing:
            self._refused = await self._find_refused()
        notes = tuple(
            f"{self.url} refuses {name}, which requests omit" for name in sorted(self._refused)
        )
        return EngineInfo(self._model, "text", streaming=False, notes=notes)

    async def _find_refused(self) -> frozenset[str]:
        names = [name for name in _FIELDS if name != "response_format" or self._schema is not None]
        doubts = Doubts()
        without: list[str] = []
        while (refusal := await self._refusal(without, doubts)) is not None:
            if len(without) == len(names):
                raise EngineMisconfigured(
                    f"{self.url} refuses even a plain chat request for model {self._model!r}: "
                    f"{refusal}"
                )
            without.append(names[len(without)])
        # The last dropped field was refused; the earlier ones may be accepted.
        for name in without[:-1]:
            fewer = [field for field in without if field != name]
            if await self._refusal(fewer, doubts) is None:
                without = fewer
        return frozenset(without)

    async def _refusal(self, without: Collection[str], doubts: Doubts) -> EngineError | None:
        """Return why the server does not take a request ``without`` some fields."""
        probe = ChatRequest("probe", _PROBE_MESSAGES, Sampling(), max_tokens=1, seed=0)

        async def send() -> None:
            reply = await self._send(probe, without)
            with self._server.masked_errors():
                _read(reply, self._server.root)

        try:
            await doubts.repeat(send)
        except EngineRefused as error:
            return error
        except UnusableReply as error:
            if is_temporary(error.status):
                raise
            return error
        return None

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Send one request, without retries; raises the errors of :func:`status_fault`."""
        if self._refused is None:
            await self.probe()
        async with self._slots:
            reply = await self._send(request, self._refused or ())
            with self._server.masked_errors():
                return _read(reply, self._server.root)

    async def _send(self, request: ChatRequest, without: Collection[str]) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [message.model_dump() for message in request.messages],
            "max_tokens": request.max_tokens,
            "seed": fit_seed(request.seed, _SEED_BITS),
            "temperature": float(sampling.temperature),
            "top_p": float(sampling.top_p),
            "top_k": sampling.top_k or -1,
            "min_p": float(sampling.min_p),
            "chat_template_kwargs": {"enable_thinking": False},
        }
        if self._schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": self._schema},
            }
        for name in without:
            for field in _FIELDS[name]:
                body.pop(field, None)
        return await self._server.post_for_json(
            _PATH, jsonl.dumps(body), {}, read_seconds=request.max_tokens * self._seconds_per_token
        )


class ChatPool(Failover[ChatEngine]):
    """Replicas of one chat model; use it as ``async with ChatPool(…) as pool``."""

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Return a reply from any replica; retries and raises as :meth:`ReplicaPool.stream`."""
        try:
            return await self._retried(
                RetryState(request.key), lambda engine: engine.reply(request)
            )
        finally:
            self.release(request.key)  # requests share no cache, so any replica may serve the next


def _read(value: Mapping[str, Any], where: str) -> ChatReply:
    if value.get("error"):
        try:
            raise_event_error(value["error"])
        except EngineUnavailable as error:
            raise UnusableReply(f"{where}{_PATH}: {error}", status=error.status) from error
    try:
        choice = value["choices"][0]
        content, finish = choice["message"].get("content"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        content, finish = value, None
    if content is not None and not isinstance(content, str):
        shown = str(value)[:200]
        raise UnusableReply(f"{where}{_PATH}: the reply is not a chat completion: {shown}")
    # Unpaired surrogates, as in "\ud800", cannot be written to a file.
    text = (content or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return ChatReply(_without_thoughts(text), truncated=finish == "length")


def _without_thoughts(text: str) -> str:
    """Drop thinking at the start; its opening marker may come from the template."""
    before, marker, after = text.partition("</think>")
    head = before.lstrip()
    # In a JSON reply the marker is part of a string.
    thinks = head.startswith("<think>") or ("<think>" not in head and head[:1] not in ("[", "{"))
    return after.lstrip() if marker and thinks else text
