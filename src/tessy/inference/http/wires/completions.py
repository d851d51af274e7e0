"""``/v1/completions`` with token ids as the prompt and in the reply.

``return_token_ids`` (vLLM 0.10.2 and later) echoes the prompt's ids once, about 4 bytes a token.
"""

from __future__ import annotations

from tessy.inference.base import Mode, Request
from tessy.inference.http.wires.base import Wire, fit_seed, json_object, neutral_sampling
from tessy.inference.http.wires.vllm_generate import IdsReader


class CompletionsWire(Wire):
    """Token ids both ways, with ``return_token_ids``."""

    mode: Mode = "completions"
    path = "/v1/completions"

    def __init__(self, model: str) -> None:
        self._model = model

    def body(self, request: Request, *, stream: bool) -> bytes:
        """Return the request; the text in the reply is ignored."""
        fields = {
            "model": self._model,
            "stream": stream,
            "seed": fit_seed(request.seed, 63),
            **neutral_sampling(request),
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        return json_object(fields, "prompt", request.prompt)

    def reader(self, request: Request) -> IdsReader:
        """Return a reader of ``choices[0].token_ids``."""
        return IdsReader()
