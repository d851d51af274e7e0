"""vLLM's ``/inference/v1/generate``: ids in, ids out; the cheapest wire at long context.

vLLM offers it with ``--enable-scale-out`` or ``--tokens-only`` and answers 403 otherwise.
"""

from __future__ import annotations

import json
from typing import Any

from tessy.inference.base import Chunk, Mode, Request, Sampling
from tessy.inference.http.wires.base import (
    NOTHING,
    Wire,
    finished,
    fit_seed,
    neutral_sampling,
    only_choice,
    token_list,
)


class GenerateWire(Wire):
    """Token ids both ways; sampling values are vLLM's ``SamplingParams``."""

    mode: Mode = "generate"
    path = "/inference/v1/generate"

    def __init__(self, model: str) -> None:
        self._model = model
        # Serializing the fields shared by all requests costs more than the rest.
        self._beginnings: dict[tuple[Sampling, tuple[int, ...], bool], str] = {}

    def body(self, request: Request, *, stream: bool) -> bytes:
        """Return the request, with ``detokenize: false`` so that the server skips text."""
        common = request.sampling, request.stop_ids, stream
        beginning = self._beginnings.get(common)
        if beginning is None:
            sampling = {**neutral_sampling(request), "detokenize": False}
            del sampling["max_tokens"]
            fields = {"model": self._model, "stream": stream, "sampling_params": sampling}
            beginning = self._beginnings[common] = json.dumps(fields).removesuffix("}}")
        own = f'"max_tokens": {request.max_tokens}, "seed": {fit_seed(request.seed, 63)}'
        head = f'{beginning}, {own}}},"token_ids":'
        return request.prompt.json_between(head.encode("ascii"), b"}")

    def reader(self, request: Request) -> IdsReader:
        """Return a reader of ``choices[0].token_ids``."""
        return IdsReader()


class IdsReader:
    """Reads ``choices[0].token_ids``, which both vLLM endpoints share; the stop id is in it."""

    by_ids = True

    def read(self, event: dict[str, Any]) -> Chunk:
        """Return the new ids of ``event``, without the stop id."""
        choice = only_choice(event)
        if choice is None:
            return NOTHING
        stop_id = choice.get("stop_reason")
        return finished(
            token_list(choice.get("token_ids")),
            choice.get("finish_reason"),
            stop_id if type(stop_id) is int else None,
            includes_stop=True,
        )
