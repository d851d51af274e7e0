"""``/v1/completions`` with token ids as the prompt, and two ways to get ids back.

``return_token_ids`` (vLLM 0.10.2 and later) echoes the prompt's ids once, about 4 bytes a token;
the logprobs way (``return_tokens_as_token_ids``, older vLLM) does not, but computes logprobs.
"""

from __future__ import annotations

from typing import Any

from tessy.engines.base import Chunk, Request
from tessy.engines.wire_base import (
    NOTHING,
    BadReply,
    Mode,
    NoTokenIds,
    Wire,
    finished,
    fit_seed,
    json_object,
    neutral_sampling,
    only_choice,
)
from tessy.engines.wire_generate import IdsReader

_TOKEN_ID = "token_id:"


class CompletionsWire(Wire):
    """Ids in; ids out by ``return_token_ids``."""

    name = "completions"
    mode: Mode = "completions"
    path = "/v1/completions"
    notes: tuple[str, ...] = ()
    _ask: dict[str, Any] = {"return_token_ids": True}  # noqa: RUF012 - never changed

    def __init__(self, model: str) -> None:
        """Speak to the server's ``model``."""
        self._model = model

    def body(self, request: Request, *, stream: bool) -> bytes:
        """The request; text comes back too, and is not read."""
        fields = {
            "model": self._model,
            "stream": stream,
            "seed": fit_seed(request.seed, 63),
            **neutral_sampling(request),
            "skip_special_tokens": False,
            **self._ask,
        }
        return json_object(fields, "prompt", request.prompt)

    def reader(self, request: Request) -> IdsReader | LogprobsReader:
        """Ids come as ``choices[0].token_ids``."""
        return IdsReader()


class LogprobsWire(CompletionsWire):
    """Ids in; ids out as the token names of logprobs."""

    name = "logprobs"
    notes = (
        "Token ids are read from logprobs, for servers that know no return_token_ids; "
        "vLLM 0.10.2 or later does it at less cost.",
    )
    _ask: dict[str, Any] = {"logprobs": 0, "return_tokens_as_token_ids": True}  # noqa: RUF012

    def reader(self, request: Request) -> LogprobsReader:
        """Ids come as ``choices[0].logprobs.tokens``."""
        return LogprobsReader()


class LogprobsReader:
    """Reads ``"token_id:123"`` names; the stop id is among them."""

    by_ids = False

    def read(self, event: dict[str, Any]) -> Chunk:
        """The new ids of ``event``, without the stop id."""
        choice = only_choice(event)
        if choice is None:
            return NOTHING
        stop_id = choice.get("stop_reason")
        return finished(
            self._ids(choice),
            choice.get("finish_reason"),
            stop_id if type(stop_id) is int else None,
            includes_stop=True,
        )

    @staticmethod
    def _ids(choice: dict[str, Any]) -> list[int]:
        logprobs = choice.get("logprobs")
        if logprobs is None:
            if choice.get("finish_reason") is not None and not choice.get("text"):
                return []  # nothing was added by the event that ends the reply
            raise NoTokenIds("the reply carries no logprobs")
        names = logprobs.get("tokens") if isinstance(logprobs, dict) else None
        if not isinstance(names, list):
            raise BadReply(f"logprobs without tokens: {str(logprobs)[:200]}")
        try:
            return [int(name.removeprefix(_TOKEN_ID)) for name in names if _is_id(name)]
        except ValueError as error:
            raise BadReply(f"a token name that is no id: {str(names)[:200]}") from error


def _is_id(name: object) -> bool:
    if isinstance(name, str) and name.startswith(_TOKEN_ID):
        return True
    raise NoTokenIds(f"logprobs name tokens by text ({name!r}), not by id")
