"""The interface of wire formats: a request body, and a reader of the reply's events."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from tessy.core.errors import EngineError, EngineRefused, EngineUnavailable
from tessy.inference.base import Chunk, Mode, Request
from tessy.tokenization.token_ids import TokenIds


class BadReply(EngineError):
    """A reply that does not follow the wire format; the caller adds the server."""


class NoTokenIds(BadReply):
    """A reply of a server that does not return token ids."""


class WireReader(Protocol):
    """Reads the events of one reply; one per request, because formats may carry state.

    If ``by_ids`` is set, an event with ``token_ids`` and no finish reason is not passed to
    :meth:`read`: it adds those ids and nothing else.
    """

    by_ids: bool

    def read(self, event: dict[str, Any]) -> Chunk:
        """Return the chunk that ``event`` adds; raises BadReply or the server's own error."""


class Wire(Protocol):
    """A way of sending a prompt and receiving ids."""

    mode: Mode
    path: str  # below the server's root
    notes: tuple[str, ...] = ()  # what is lost with this wire, in plain sentences

    def body(self, request: Request, *, stream: bool) -> bytes:
        """Return the JSON body of ``request``."""

    def reader(self, request: Request) -> WireReader:
        """Return a reader for the reply to ``request``."""


NOTHING = Chunk(())
_IDS_END = 2**31
_IDS = re.compile(rb'"token_ids": ?\[([0-9]{1,9}(?:, ?[0-9]{1,9})*)\]')
_UNFINISHED = re.compile(rb'"finish_reason": ?null')


def json_object(fields: dict[str, Any], name: str, ids: TokenIds) -> bytes:
    """Serialize ``fields`` and a member ``name``: the array ``ids``, serialized only once."""
    head = f'{json.dumps(fields)[:-1]},"{name}":'
    return ids.json_between(head.encode("ascii"), b"}")


class EventReader:
    """Converts the events of one reply to chunks."""

    __slots__ = ("_by_ids", "_reader")

    def __init__(self, reader: WireReader) -> None:
        self._reader = reader
        self._by_ids = reader.by_ids

    def read(self, events: Sequence[bytes]) -> Chunk:
        """Return ``events`` (JSON objects) as one chunk; those after a finish are ignored."""
        ids: list[int] = []
        for payload in events:
            if payload == b"[DONE]":
                break
            chunk = self._chunk(payload)
            ids += chunk.ids
            if chunk.finish is not None:
                return Chunk(tuple(ids), chunk.finish, chunk.stop_id)
        return Chunk(tuple(ids)) if ids else NOTHING

    def _chunk(self, payload: bytes) -> Chunk:
        found = ids_alone(payload) if self._by_ids else None
        if found is not None:
            return Chunk(tuple(map(int, found[1].split(b","))))
        try:
            event = json.loads(payload.decode())  # bytes would make it detect their encoding
        except (ValueError, RecursionError) as error:
            raise BadReply(f"malformed JSON: {payload[:200]!r}") from error
        if not isinstance(event, dict):
            raise BadReply(f"not a JSON object: {payload[:200]!r}")
        return self._reader.read(event)


def ids_alone(payload: bytes) -> re.Match[bytes] | None:
    """Return the place of the ids in an event that adds nothing else; None if it needs parsing."""
    # A quote inside a JSON string is escaped, so what looks like a key is one.
    if payload.count(b'"token_ids"') != 1 or payload.count(b'"finish_reason"') != 1:
        return None
    found = _IDS.search(payload)
    if found is None or _UNFINISHED.search(payload) is None or b'"error"' in payload:
        return None
    return found


def neutral_sampling(request: Request) -> dict[str, Any]:
    """Return sampling values as OpenAI-like servers name them, with all defaults neutralised.

    Servers fill what is missing from the model's generation_config.json. ``top_k`` -1 means "no
    limit" on every server; 0 does not.
    """
    sampling = request.sampling
    return {
        "max_tokens": request.max_tokens,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "top_k": sampling.top_k or -1,
        "min_p": float(sampling.min_p),
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": False,
        "min_tokens": 0,
        "stop_token_ids": list(request.stop_ids),
    }


def fit_seed(seed: int, bits: int) -> int:
    """Return ``seed`` as a non-negative integer of at most ``bits`` bits."""
    return seed & ((1 << bits) - 1)


def only_choice(event: dict[str, Any]) -> dict[str, Any] | None:
    """Return the choice of an OpenAI-like event; None for an event without one (usage)."""
    error = event.get("error")
    if error:
        raise_event_error(error)
    choices = event.get("choices")
    if choices == [] and event.get("usage"):
        return None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply(f"a reply without choices: {json.dumps(event)[:200]}")
    return choices[0]


def raise_event_error(error: object) -> NoReturn:
    """Raise the error for ``error``, a JSON value inside a reply."""
    code = error.get("code") if isinstance(error, dict) else None
    message = f"the server reported an error in its reply: {json.dumps(error)[:200]}"
    if code in (400, 413, 422):
        raise EngineRefused(message)
    raise EngineUnavailable(message, status=code if type(code) is int else None)


def token_list(value: object) -> list[int]:
    """Return ``value`` checked to be token ids."""
    if value is None:
        raise NoTokenIds("the reply carries no token ids")
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise BadReply(f"token ids are not a list of integers: {json.dumps(value)[:200]}")
    return value


def finished(ids: list[int], reason: object, stop_id: int | None, *, includes_stop: bool) -> Chunk:
    """Return a chunk from the new ``ids`` and the server's finish reason, None while more may come.

    ``includes_stop``: ``ids`` end with the stop id, even where the server names none (vLLM at EOS).
    """
    if ids and not 0 <= min(ids) <= max(ids) < _IDS_END:
        raise BadReply(f"no model has such token ids: {json.dumps(ids)[:200]}")
    if reason is None:
        return Chunk(tuple(ids))
    if reason == "length":
        return Chunk(tuple(ids), "length")
    if reason != "stop":
        raise EngineUnavailable(f"the server ended the reply with finish reason {reason!r}")
    if includes_stop and ids and stop_id in (None, ids[-1]):
        return Chunk(tuple(ids[:-1]), "stop", ids[-1])
    return Chunk(tuple(ids), "stop", stop_id)
