"""Two simulated model servers with latencies: ``python -m benchmarks.simulated_server``.

They implement the part of vLLM's HTTP interface that the clients use: ``/v1/models``,
``/metrics``, ``/v1/completions`` (text or ids, streamed or not, ``return_token_ids``) and
``/inference/v1/generate``. A client that closes its connection aborts its request. ``/totals``
returns counters for the benchmarks. The first line printed is a JSON object with both URLs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.latency import OnToken, Totals
from benchmarks.processes import ignoring_interrupts
from benchmarks.simulated_pair import PairOptions, Prompt, SimulatedPair
from benchmarks.words import make_model_folder
from tessy.core.records import Author
from tessy.tokenization.families import load_renderer

CONTEXT_TOKENS = 262_144  # geometric lengths have a long tail
CAPACITY_TOKENS = 10**9
MODEL = "simulated"
_TICK_SECONDS = 0.001


class SimulatedServer:
    """An HTTP server for one of the two models."""

    def __init__(self, pair: SimulatedPair, author: Author) -> None:
        """Serve ``author``'s model of ``pair``."""
        self._pair, self._author = pair, author
        self.app = web.Application(client_max_size=2**26)
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_get("/health", self._models)
        self.app.router.add_get("/metrics", self._metrics)
        self.app.router.add_get("/totals", self._totals)
        self.app.router.add_post("/v1/completions", self._generate)
        self.app.router.add_post("/inference/v1/generate", self._generate)

    async def _models(self, request: web.Request) -> web.Response:
        card = {"id": MODEL, "owned_by": "vllm", "max_model_len": CONTEXT_TOKENS}
        return web.json_response({"object": "list", "data": [card]})

    async def _metrics(self, request: web.Request) -> web.Response:
        labels = (
            f'block_size="16",enable_prefix_caching="True",kv_cache_size_tokens="{CAPACITY_TOKENS}"'
        )
        return web.Response(text=f"vllm:cache_config_info{{{labels}}} 1.0\n")

    async def _totals(self, request: web.Request) -> web.Response:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        totals = {author: asdict(total) for author, total in self._pair.totals().items()}
        return web.json_response({**totals, "cpu_seconds": usage.ru_utime + usage.ru_stime})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = _parse(await request.read())
        key = request.headers.get("X-Session-ID", "")
        reply = _Reply(self._pair, request.path, body)

        def begin(on_token: OnToken) -> Callable[[], None]:
            return self._pair.start(
                self._author,
                key,
                reply.prompt,
                limit=reply.limit,
                ignore_eos=reply.ignore_eos,
                on_token=on_token,
            )

        if not body.get("stream"):
            return await _complete_reply(reply, begin)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await response.write(b": keep-alive\n\n")  # the first write sends the headers
        except ConnectionResetError:  # a prefetched request that was aborted
            return response
        transport = request.transport
        ended = asyncio.get_running_loop().create_future()

        def send(token: int, finish: str | None) -> None:
            # Bypasses the response's writer, which would wake a task for each token.
            if transport is None or transport.is_closing():
                return
            if finish is None and reply.plain is not None:
                data = reply.plain % token
            else:
                data = b"data: " + json.dumps(reply.event([token], finish)).encode() + b"\n\n"
            if finish is not None:
                data += b"data: [DONE]\n\n"
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            if finish is not None and not ended.done():
                ended.set_result(finish)

        abort = begin(send)
        try:
            await ended
        finally:
            abort()
        await response.write_eof()
        return response


class _Reply:
    """A request and the events of its reply."""

    def __init__(self, pair: SimulatedPair, path: str, body: dict[str, Any]) -> None:
        self._pair = pair
        self._text = path == "/v1/completions"
        values = body if self._text else body["sampling_params"]
        self.prompt: Prompt = body["prompt" if self._text else "token_ids"]
        self.limit: int = values.get("max_tokens", 16)
        self.ignore_eos = bool(values.get("ignore_eos"))
        self._ids = not self._text or bool(body.get("return_token_ids"))
        # Template of the usual event, with one id and without text.
        event = json.dumps(self.event([0], None)).encode() if not self._text else b""
        self.plain = b"data: " + event.replace(b"[0]", b"[%d]") + b"\n\n" if event else None

    def event(self, ids: list[int], finish: str | None) -> dict[str, Any]:
        """Return one event, or the complete reply, in vLLM's format."""
        stop = ids[-1] if finish == "stop" else None
        choice: dict[str, Any] = {
            "index": 0,
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": stop,
        }
        if self._ids:
            choice["token_ids"] = ids
        if not self._text:
            return {"request_id": "generate-tokens-0123456789abcdef", "choices": [choice]}
        shown = ids[:-1] if stop is not None else ids
        choice["text"] = "".join(map(self._pair.spell, shown))
        return {
            "id": "cmpl-0123456789abcdef",
            "object": "text_completion",
            "created": 0,
            "model": MODEL,
            "choices": [choice],
            "usage": {"completion_tokens": len(ids)},
        }


def _parse(body: bytes) -> dict[str, Any]:
    """Parse the JSON object of a request, but not the prompt's ids if they are its last member.

    Parsing 16,000 numbers would be most of the cost of a request.
    """
    begin = body.rfind(b"[")
    head, inner, end = body[:begin], body[begin + 1 : -2], body[-2:]
    if end != b"]}" or not head.endswith(b'"token_ids":') or not inner:
        document: dict[str, Any] = json.loads(body)
        return document
    return {**json.loads(head + b"0}"), "token_ids": inner}


async def _complete_reply(
    reply: _Reply, begin: Callable[[OnToken], Callable[[], None]]
) -> web.StreamResponse:
    """Reply to a request that does not stream."""
    ids: list[int] = []
    ended = asyncio.get_running_loop().create_future()

    def collect(token: int, finish: str | None) -> None:
        ids.append(token)
        if finish is not None and not ended.done():
            ended.set_result(finish)

    abort = begin(collect)
    try:
        return web.json_response(reply.event(ids, await ended))
    finally:
        abort()


async def serve(pair: SimulatedPair) -> None:
    """Serve both until cancelled; print the URLs."""
    runners = []
    urls: dict[str, str] = {}
    sides: tuple[Author, Author] = ("teacher", "student")
    try:
        for author in sides:
            runner = web.AppRunner(
                SimulatedServer(pair, author).app, handler_cancellation=True, access_log=None
            )
            await runner.setup()
            runners.append(runner)
            site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
            await site.start()
            port = runner.addresses[0][1]
            urls[author] = f"http://127.0.0.1:{port}"
        print(json.dumps(urls), flush=True)
        await asyncio.Event().wait()
    finally:
        for runner in runners:
            await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Running:
    """Servers in a process of their own.

    Attributes:
        urls: URLs by role.
    """

    urls: dict[Author, str]

    def totals(self) -> tuple[dict[Author, Totals], float]:
        """Return the totals of each server, and the CPU seconds of their process."""
        with urllib.request.urlopen(self.urls["teacher"] + "/totals", timeout=60) as response:
            found = json.load(response)
        sides: tuple[Author, Author] = ("teacher", "student")
        return {author: Totals(**found[author]) for author in sides}, found["cpu_seconds"]


@contextlib.contextmanager
def running(folder: Path, options: PairOptions) -> Generator[Running, None, None]:
    """Start both servers in one process, which ends with the context.

    Args:
        folder: Tokenizer from :func:`benchmarks.words.make_model_folder`.
        options: Options of the servers.
    """
    command = [sys.executable, "-m", "benchmarks.simulated_server", "--folder", str(folder)]
    for name, value in asdict(options).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    with contextlib.ExitStack() as ending:
        with ignoring_interrupts():
            place = Path(__file__).parents[1]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=place)
            ending.enter_context(process)
            ending.callback(process.terminate)
        assert process.stdout is not None
        yield Running(json.loads(process.stdout.readline()))


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="of the tokenizer; created if missing"
    )
    parser.add_argument("--slots", type=int, default=1024, help="requests served at a time")
    parser.add_argument("--slow-down", type=float, default=1.0, help="factor on all times")
    parser.add_argument("--seed", type=int, default=0, help="seed of jitter and stragglers")
    parser.add_argument("--thinking-tokens", type=int, default=13_000, help="mean of thinking")
    parser.add_argument("--answer-tokens", type=int, default=1_000, help="mean of answers")
    parser.add_argument("--tick-seconds", type=float, default=_TICK_SECONDS, help="of timers")
    options = vars(parser.parse_args())
    folder = options.pop("folder")
    if not (folder / "tokenizer.json").exists():
        make_model_folder(folder)
    codec = load_renderer(folder).codec
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(SimulatedPair(codec, PairOptions(**options))))


if __name__ == "__main__":
    main()
