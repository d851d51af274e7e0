"""What a server loaded under the name of its model (vLLM's ``--served-model-name``)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tessy.core.errors import EngineError
from tessy.inference.http.client import ServerClient, model_cards
from tessy.inference.http.doubts import Doubts

_SECONDS = 1.5


def served_root(urls: Sequence[str], model: str, *, api_key: str | None) -> str | None:
    """Return the ``root`` of ``model`` in ``/v1/models``: the folder or hub id that is served.

    None if no server tells it within 1.5 s.
    """
    with ThreadPoolExecutor(1) as thread:  # the caller may run in an event loop
        return thread.submit(lambda: asyncio.run(_first_root(urls, model, api_key))).result()


async def _first_root(urls: Sequence[str], model: str, api_key: str | None) -> str | None:
    try:
        async with asyncio.timeout(_SECONDS):
            for url in urls:
                root = await _root(url, model, api_key)
                if root is not None:
                    return root
    except TimeoutError:
        pass
    return None


async def _root(url: str, model: str, api_key: str | None) -> str | None:
    server = ServerClient(url, api_key=api_key, stall_seconds=_SECONDS)
    try:
        listing = await Doubts().repeat(lambda: server.look_up_json("/v1/models"), every=True)
    except EngineError:
        return None
    finally:
        await server.aclose()
    cards = model_cards(listing or {}) or {}
    root = cards.get(model, {}).get("root")
    return root if isinstance(root, str) and root != model else None
