"""A model server for tests: real HTTP, vLLM's, SGLang's and OpenAI's formats, faults on demand.

Replies come from a script: a function of the ids of the prompt and the seed. As in vLLM, the ids of
a reply include the stop id, and the end of a turn has no ``stop_reason``.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

from tessy.inference.scripted import EOS, ByteCodec
from tessy.tokenization.token_ids import Codec, decode
from tests.support.listeners import start_listening, stop_accepting

Script = Callable[[list[int], int], Sequence[int]]

# Features of servers; see `FakeServer`.
VLLM = frozenset({"models", "metrics", "generate", "completions", "ids", "token_ids", "extras"})
STOCK_VLLM = VLLM - {"generate"}
OLD_VLLM = STOCK_VLLM - {"token_ids"}  # before 0.10.2
SGLANG = frozenset({"models", "sglang"})
TEXT_ONLY = frozenset({"models", "completions", "extras"})
PLAIN_OPENAI = frozenset({"models", "completions"})
LLAMA_CPP = PLAIN_OPENAI | {"lenient"}
CHAT_ONLY = frozenset({"models", "chat"})

_OPENAI_FIELDS = frozenset({"model", "prompt", "max_tokens", "temperature", "top_p", "n", "stream"})
_OPENAI_FIELDS |= {"stop", "seed", "presence_penalty", "frequency_penalty", "logprobs", "echo"}


@dataclass(frozen=True)
class Fault:
    """A fault of one generation request.

    ``status`` returns that status; ``hang`` sends nothing after ``after`` tokens; ``cut`` closes
    the connection after them; ``no_finish`` ends the reply after them without a finish reason;
    ``malformed``, ``no_choices`` and ``error`` send such an event after them.
    """

    kind: Literal["status", "hang", "cut", "no_finish", "malformed", "no_choices", "error"]
    after: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    text: str = '{"error": {"message": "out of order"}}'
    error: dict[str, Any] = field(default_factory=lambda: {"message": "it broke", "code": 500})


@dataclass(frozen=True)
class Seen:
    """A generation request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """Tokens of a reply; the last ones have a finish reason."""

    ids: list[int]
    text: str
    finish: str | None = None
    stop: int | str | None = None  # stop id or string; None at the end of a turn
    total: int = 0  # tokens so far


class FakeServer:
    """``async with FakeServer(script) as server``: serves at ``server.url``.

    Args:
        script: Returns the ids after a prompt; the turn ends after them.
        can: Features: ``models`` (a list), ``metrics``, ``generate``, ``sglang``, ``completions``,
            ``chat``; of completions: ``ids`` as a prompt, ``token_ids`` in replies, ``extras``
            (fields beyond OpenAI's), ``lenient`` (accepts and ignores such fields).
        model: Name of the model.
        codec: Its tokenizer.
        eos: Its id that ends a turn.
        api_key: API key, required except for ``/health``.
        streams: Whether ``stream: true`` is accepted.
        token_seconds: Seconds per token.
        tokens_per_event: Tokens per event.
        incremental: SGLang's --incremental-streaming-output.
        metrics: The text at ``/metrics``.
        capacity: Reported size of the KV cache in tokens.

    Attributes:
        seen: Generation requests, including those of probes.
        faults: Faults of the next generation requests, in order.
        aborted: Number of requests whose client disconnected before the end.
        written: Number of tokens sent in streams.
        busy: Number of current requests.
        connections: Number of TCP connections with generation requests.
    """

    def __init__(
        self,
        script: Script,
        *,
        can: frozenset[str] = VLLM,
        model: str = "tiny",
        codec: Codec | None = None,
        eos: int = EOS,
        api_key: str | None = None,
        streams: bool = True,
        token_seconds: float = 0.0,
        tokens_per_event: int = 1,
        incremental: bool = False,
        metrics: str | None = None,
        capacity: int = 65536,
        context: int | None = 4096,
    ) -> None:
        self.script, self.can, self.model = script, can, model
        self.codec: Codec = codec or ByteCodec()
        self.eos = eos
        self.api_key, self.streams = api_key, streams
        self.token_seconds, self.tokens_per_event = token_seconds, tokens_per_event
        self.incremental, self.capacity, self.context = incremental, capacity, context
        self.metrics = metrics or (
            f'vllm:cache_config_info{{block_size="16",enable_prefix_caching="True",engine="0",'
            f'kv_cache_size_tokens="{capacity}",num_gpu_blocks="9"}} 1.0\n'
        )
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.aborted = self.written = 0
        self.busy = 0
        self._peers: set[object] = set()
        self._cached: set[str] = set()
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        return len(self._peers)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start listening; after ``stop``, on the same port."""
        app = web.Application(client_max_size=2**26, middlewares=[self._authorised])
        app.router.add_get("/health", self._health)
        pages = {"/v1/models": "models", "/metrics": "metrics", "/get_server_info": "sglang"}
        for path, feature in pages.items():
            if feature in self.can:
                app.router.add_get(path, self._page)
        app.router.add_post("/inference/v1/generate", self._generate)
        for path, feature in {
            "/v1/completions": "completions",
            "/generate": "sglang",
            "/v1/chat/completions": "chat",
        }.items():
            if feature in self.can:
                app.router.add_post(path, self._generate)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        self._listener = await start_listening(self._runner, self._port)
        self._port = self._listener.getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        if self._runner is not None:
            await stop_accepting(self._listener)
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _authorised(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        wanted = f"Bearer {self.api_key}"
        if (
            self.api_key
            and request.path != "/health"
            and request.headers.get("Authorization") != wanted
        ):
            return web.json_response({"error": "Unauthorized"}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _page(self, request: web.Request) -> web.Response:
        if request.path == "/metrics":
            return web.Response(text=self.metrics)
        if request.path == "/get_server_info":
            info = {"model_path": self.model, "tokenizer_path": self.model}
            cache = {"max_total_num_tokens": self.capacity, "disable_radix_cache": False}
            return web.json_response(info | cache)
        owner = "vllm" if "metrics" in self.can else "sglang" if "sglang" in self.can else "me"
        card = {"id": self.model, "owned_by": owner, "max_model_len": self.context}
        return web.json_response({"object": "list", "data": [card]})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":  # as in vLLM
            return web.json_response({"error": "Unsupported Media Type"}, status=400)
        body = json.loads(await request.read())
        if request.transport is not None:
            self._peers.add(request.transport.get_extra_info("peername"))
        self.seen.append(Seen(request.path, dict(request.headers), body))
        refusal = self._refusal(request.path, body)
        if refusal is not None:
            status, message = refusal
            return web.json_response({"error": {"message": message, "code": status}}, status=status)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and fault.kind == "status":
            return web.Response(status=fault.status, headers=fault.headers, text=fault.text)
        self.busy += 1
        try:
            if body.get("stream"):
                return await self._stream(request, body, fault)
            return await self._whole(request.path, body, fault)
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        finally:
            self.busy -= 1

    def _refusal(self, path: str, body: dict[str, Any]) -> tuple[int, str] | None:
        if path == "/inference/v1/generate" and "generate" not in self.can:
            return (403, "Restart with --enable-scale-out") if "ids" in self.can else (404, "no")
        if path == "/v1/chat/completions":
            return 400, "messages must not be empty"
        if body.get("model", self.model) != self.model:
            return 404, "no such model"
        if body.get("stream") and not self.streams:
            return 400, "streaming is not supported"
        if path == "/v1/completions":
            if isinstance(body["prompt"], list) and "ids" not in self.can:
                return 422, "prompt must be a string"
            unknown = set(body) - _OPENAI_FIELDS
            if unknown and not self.can & {"extras", "lenient"}:
                return 400, f"unknown fields: {sorted(unknown)}"
        return None

    async def _stream(
        self, request: web.Request, body: dict[str, Any], fault: Fault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await response.write(b": keep-alive\n\n")
        async for step in self._paced(self._steps(request.path, body)):
            if fault is not None and step.total > fault.after:
                if not await self._break(request, response, fault):
                    return response
                fault = None
            event = self._event(request.path, body, step)
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            self.written += len(step.ids)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _break(
        self, request: web.Request, response: web.StreamResponse, fault: Fault
    ) -> bool:
        """Perform ``fault``; return whether the reply continues after it."""
        if fault.kind == "hang":
            await asyncio.sleep(3600)
        if fault.kind == "cut" and request.transport is not None:
            request.transport.close()
        if fault.kind == "malformed":
            await response.write(b'data: {"choices": [\n\n')
        if fault.kind == "no_choices":
            await response.write(b'data: {"id": "x"}\n\n')
        if fault.kind == "error":
            await response.write(b"data: " + json.dumps({"error": fault.error}).encode() + b"\n\n")
        return fault.kind in ("malformed", "no_choices", "error")

    async def _whole(self, path: str, body: dict[str, Any], fault: Fault | None) -> web.Response:
        steps = [step async for step in self._paced(self._steps(path, body))]
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(3600)
        if fault is not None and fault.kind == "malformed":
            return web.Response(text='{"choices": [', content_type="application/json")
        if fault is not None and fault.kind == "no_choices":
            return web.json_response({"id": "x"})
        ids = [token_id for step in steps for token_id in step.ids]
        last = steps[-1]
        text = "".join(step.text for step in steps)
        reply = self._event(path, body, Step(ids, text, last.finish, last.stop, len(ids)))
        prompt = json.dumps(body.get("prompt", body.get("token_ids", body.get("input_ids"))))
        cached = {"cached_tokens": 16 if prompt in self._cached else 0}
        self._cached.add(prompt)
        if path == "/generate":
            reply["meta_info"] |= cached
        else:
            reply["usage"] = {"prompt_tokens_details": cached}
        return web.json_response(reply)

    async def _paced(self, steps: Iterator[Step]) -> AsyncIterator[Step]:
        for step in steps:
            if self.token_seconds:
                await asyncio.sleep(self.token_seconds * len(step.ids))
            yield step

    def _steps(self, path: str, body: dict[str, Any]) -> Iterator[Step]:
        """Yield the reply in steps of ``tokens_per_event`` tokens."""
        ids, finish, stop = self._draw(path, body)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        shown = len(ids) - (finish == "stop")  # the text does not include the stop id
        for start in range(0, len(ids), self.tokens_per_event):
            end = min(len(ids), start + self.tokens_per_event)
            data = b"".join(map(self.codec.token_bytes, ids[start : min(end, shown)]))
            last = end == len(ids)
            text = decoder.decode(data, final=last)
            yield Step(ids[start:end], text, finish if last else None, stop if last else None, end)

    def _draw(self, path: str, body: dict[str, Any]) -> tuple[list[int], str, int | str | None]:
        """Return ids including the stop id, the finish reason, and the stop id or string."""
        values = body if path == "/v1/completions" else body["sampling_params"]
        prompt = body.get("prompt", body.get("token_ids", body.get("input_ids")))
        prompt_ids = prompt if isinstance(prompt, list) else self._read(str(prompt))
        seed = values.get("seed", values.get("sampling_seed", 0))
        limit = values.get("max_tokens", values.get("max_new_tokens"))
        stops = values.get("stop_token_ids", []) if self._knows_stop_ids(path) else []
        strings = values.get("stop", [])
        ids: list[int] = []
        for token_id in [*self.script(list(prompt_ids), seed), self.eos]:
            ids.append(token_id)
            text = decode(self.codec, [token_id])
            if token_id in stops:
                return ids, "stop", token_id
            if text in strings:
                return ids, "stop", text if "extras" in self.can else None
            if token_id == self.eos:
                return ids, "stop", self.eos if path == "/generate" else None
            if len(ids) == limit:
                return ids, "length", None
        raise AssertionError("every reply ends with the end of the turn")

    def _knows_stop_ids(self, path: str) -> bool:
        return path != "/v1/completions" or bool(self.can & {"ids", "extras"})

    def _read(self, text: str) -> list[int]:
        """Tokenize text with control tokens, as servers do."""
        control = {decode(self.codec, [token_id]): token_id for token_id in self.codec.control_ids}
        ids: list[int] = []
        for piece in re.split("(" + "|".join(map(re.escape, control)) + ")", text):
            ids += [control[piece]] if piece in control else self.codec.encode(piece)
        return ids

    def _event(self, path: str, body: dict[str, Any], step: Step) -> dict[str, Any]:
        if path == "/generate":
            return self._sglang_event(path, body, step)
        choice: dict[str, Any] = {"index": 0, "finish_reason": step.finish}
        if "extras" in self.can or "ids" in self.can:
            choice["stop_reason"] = step.stop
        if path == "/inference/v1/generate":
            choice["token_ids"] = step.ids
            return {"request_id": "generate-tokens-1", "choices": [choice]}
        choice |= {"text": step.text, "logprobs": None}
        if body.get("return_token_ids") and "token_ids" in self.can:
            choice["token_ids"] = step.ids
            choice["prompt_token_ids"] = body["prompt"] if step.total == len(step.ids) else None
        return {"id": "cmpl-1", "object": "text_completion", "choices": [choice]}

    def _sglang_event(self, path: str, body: dict[str, Any], step: Step) -> dict[str, Any]:
        finish: dict[str, Any] | None = None
        if step.finish == "stop":
            finish = {"type": "stop", "matched": step.stop}
        elif step.finish == "length":
            finish = {"type": "length", "length": step.total}
        ids = step.ids
        if not self.incremental:
            ids = self._draw(path, body)[0][: step.total]
        meta = {"id": "1", "finish_reason": finish, "completion_tokens": step.total}
        return {"text": step.text, "output_ids": ids, "meta_info": meta}


def writes(text: str, *after: int) -> Script:
    """Return a script that generates ``text`` and then the ids ``after``, for any prompt."""
    ids = [*ByteCodec().encode(text), *after]
    return lambda prompt, seed: ids


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds, or until the time limit of the test."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.01)
