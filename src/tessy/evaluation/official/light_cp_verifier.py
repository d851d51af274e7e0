"""Client of LightCPVerifier, the judge server of LiveCodeBench-Pro.

Source: ``judge.py`` of its toolkit: ``POST /submit`` returns a submission id, ``GET /result/<id>``
its result, 404 until there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from tessy.core.errors import EngineError
from tessy.core.records import Evaluation
from tessy.storage.jsonl import loads

WAIT_SECONDS = 1.0  # between two requests for results
MAX_SILENCE_SECONDS = 1800.0  # without a new result
_REQUEST_SECONDS = 60.0
_OK = 200
_NOT_FOUND = 404
FAILED = "Judge Failed"  # as the toolkit names an error of the server


async def submit_and_wait(url: str, rows: Sequence[Evaluation]) -> list[str]:
    """Submit the program of each row; return the results in the same order.

    Raises:
        EngineError: The server cannot be reached, returns an error, or returns no result for half
            an hour.
    """
    limits = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    async with aiohttp.ClientSession(timeout=limits) as session:
        base = url.rstrip("/")
        submitted = {}
        for number, row in enumerate(rows):
            program = {"pid": row.id, "lang": "cpp", "code": row.final_answer}
            reply = await _request(session, "POST", f"{base}/submit", json=program)
            submitted[number] = _field(reply, "sid", f"the program for {row.id}")
        found: dict[int, str] = {}
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            for number in submitted.keys() - found.keys():
                result = await _result(session, f"{base}/result/{submitted[number]}")
                if result is not None:
                    found[number], last = result, loop.time()
            if len(found) == len(rows):
                return [found[number] for number in range(len(rows))]
            if loop.time() - last > MAX_SILENCE_SECONDS:
                raise EngineError(
                    f"{url} returned no result for {MAX_SILENCE_SECONDS / 60:.0f} minutes, and "
                    f"{len(rows) - len(found)} are missing; check its log and start the command "
                    "again"
                )
            await asyncio.sleep(WAIT_SECONDS)


async def _result(session: aiohttp.ClientSession, url: str) -> str | None:
    """Return a result; None if there is none yet."""
    reply = await _request(session, "GET", url, missing=True)
    if reply is None or reply.get("status") == "queued":
        return None
    if reply.get("status") == "error":
        return FAILED
    return str(_field(reply, "result", url))


async def _request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    json: object = None,
    missing: bool = False,
) -> dict[str, Any] | None:
    """Return the JSON object of a reply; None for 404 if it may be ``missing``."""
    try:
        async with session.request(method, url, json=json) as response:
            text = await response.text()
            if missing and response.status == _NOT_FOUND:
                return None
            if response.status != _OK:
                raise EngineError(
                    f"{url}: status {response.status}: {text[:200]}; check the server's log"
                )
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineError(
            f"{url} cannot be reached ({error or type(error).__name__}); start LightCPVerifier, or "
            "pass its address with --url"
        ) from error
    try:
        reply = loads(text)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise EngineError(
            f"{url}: expected a JSON object, got {text[:200]!r}; check that --url is "
            "LightCPVerifier"
        )
    return reply


def _field(reply: dict[str, Any] | None, name: str, what: str) -> object:
    if reply is None or reply.get(name) is None:
        raise EngineError(
            f"{what}: expected `{name}` in the reply, got {reply!r:.200}; check that --url is "
            "LightCPVerifier"
        )
    return reply[name]
