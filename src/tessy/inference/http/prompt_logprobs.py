"""Log-probabilities of a given text from a vLLM server (``prompt_logprobs``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tessy.core.errors import EngineRefused
from tessy.inference.base import TOP_LOGPROBS, ScoredToken
from tessy.inference.http.client import ServerClient

_PATH = "/v1/completions"
_SECONDS_PER_TOKEN = 0.05  # the reply comes only when the whole prompt was read


async def score_prompt(
    server: ServerClient, model: str, key: str, ids: Sequence[int]
) -> list[ScoredToken]:
    """Score each of ``ids`` (L) but the first (L - 1) by ``model``.

    Raises:
        EngineError: As :meth:`~tessy.inference.http.client.ServerClient.post_for_json`.
        EngineRefused: The reply has no log-probabilities of the prompt.
    """
    if len(ids) < 2:
        return []
    body = {
        "model": model,
        "prompt": list(ids),
        "max_tokens": 1,
        "prompt_logprobs": TOP_LOGPROBS,
    }
    reply = await server.post_for_json(
        _PATH, json.dumps(body).encode(), {}, read_seconds=len(ids) * _SECONDS_PER_TOKEN
    )
    try:
        rows = reply["choices"][0]["prompt_logprobs"][1:]
        found = [_read(row, token_id) for row, token_id in zip(rows, ids[1:], strict=True)]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise EngineRefused(
            f"{server.root} returned no log-probabilities for the {len(ids)} prompt tokens of "
            f"{key}: this needs a vLLM server, or a model in this process"
        ) from error
    return found


def _read(row: Mapping[str, Any], token_id: int) -> ScoredToken:
    """Return the entry of one token: ``row`` has the likeliest tokens, and this one."""
    own = row[str(token_id)]
    top = sorted((float(entry["logprob"]) for entry in row.values()), reverse=True)
    return ScoredToken(float(own["logprob"]), int(own["rank"]), tuple(top[:TOP_LOGPROBS]))
