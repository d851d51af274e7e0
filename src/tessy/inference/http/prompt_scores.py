"""Log-probabilities of given token ids, from vLLM: request bodies and replies.

By default, vLLM does not use its prefix cache for such a request, because it has no scores of
cached tokens. Its generate endpoint has an option to use it. The scores of the first
``cached_tokens`` tokens, a number in the reply, are then undefined, and those after them are valid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessy.inference.base import ScoredToken


@dataclass(frozen=True, slots=True)
class ScoreWire:
    """An endpoint that returns scores.

    Attributes:
        path: Path below the server's root.
        body: Returns the request for a model, the ids, and the number of likeliest tokens.
        rows: Returns the entry of each prompt token in a reply; the first one is undefined.
        from_cache: Whether the server may use its prefix cache.
    """

    path: str
    body: Callable[[str, Sequence[int], int], bytes]
    rows: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
    from_cache: bool

    def scores(
        self, reply: Mapping[str, Any], ids: Sequence[int], start: int, top: int
    ) -> list[ScoredToken] | None:
        """Return the scores of ``ids[start:]``; None if the server has not computed all of them.

        Raises KeyError, IndexError, TypeError, AttributeError or ValueError if there are none.
        """
        if self.from_cache:
            cached = self.cached_tokens(reply)
            if cached is None or cached >= start:
                return None
        rows = self.rows(reply)[start:]
        return [_scored(row, i, top) for row, i in zip(rows, ids[start:], strict=True)]

    @staticmethod
    def cached_tokens(reply: Mapping[str, Any]) -> int | None:
        """Return how many tokens of the prompt were read from the cache; None if not reported."""
        details = (reply.get("usage") or {}).get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens")
        return cached if type(cached) is int else None


def _scored(row: Mapping[str, Any], token_id: int, top: int) -> ScoredToken:
    """Return the score of an id from its row, which has the likeliest tokens and this one."""
    own = row[str(token_id)]
    likeliest = sorted((float(entry["logprob"]) for entry in row.values()), reverse=True)
    return ScoredToken(float(own["logprob"]), int(own["rank"]), tuple(likeliest[:top]))


def _completions_body(model: str, ids: Sequence[int], top: int) -> bytes:
    fields = {"model": model, "prompt": list(ids), "max_tokens": 1, "prompt_logprobs": top}
    return json.dumps(fields).encode("ascii")


def _generate_body(model: str, ids: Sequence[int], top: int) -> bytes:
    sampling = {
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": top,
        "skip_reading_prefix_cache": False,
        "detokenize": False,
    }
    fields = {"model": model, "stream": False, "sampling_params": sampling, "token_ids": list(ids)}
    return json.dumps(fields).encode("ascii")


WHOLE_PROMPT = ScoreWire(
    "/v1/completions",
    _completions_body,
    lambda reply: reply["choices"][0]["prompt_logprobs"],
    from_cache=False,
)
CACHED_PREFIX = ScoreWire(
    "/inference/v1/generate",
    _generate_body,
    lambda reply: reply["prompt_logprobs"],
    from_cache=True,
)
