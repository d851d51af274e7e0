"""SGLang's native ``/generate`` with ``input_ids``.

Written from SGLang's documentation and tested against a fake of its documented shapes; no real
SGLang server was run.
"""

from __future__ import annotations

import json
from typing import Any

from tessy.core.errors import EngineRefused, EngineUnavailable
from tessy.inference.base import Chunk, Mode, Request
from tessy.inference.http.wires.base import (
    BadReply,
    Wire,
    finished,
    fit_seed,
    json_object,
    neutral_sampling,
    raise_event_error,
    token_list,
)


class SglangWire(Wire):
    """Token ids both ways; no model name is sent, because a server has one model.

    ``seeds`` is False for versions that refuse ``sampling_seed``.
    """

    mode: Mode = "sglang"
    path = "/generate"
    notes: tuple[str, ...] = (
        "SGLang obeys a request's seed only with --enable-deterministic-inference; without it, "
        "finished rows stay unchanged on resume, unfinished ones may continue differently.",
    )

    def __init__(self, *, seeds: bool = True) -> None:
        self._seeds = seeds
        if not seeds:
            self.notes = (
                "This SGLang has no sampling_seed, so the same request may draw other tokens.",
            )

    def body(self, request: Request, *, stream: bool) -> bytes:
        """Return the request, with SGLang's names."""
        sampling = neutral_sampling(request)
        sampling["max_new_tokens"] = sampling.pop("max_tokens")
        sampling["min_new_tokens"] = sampling.pop("min_tokens")
        sampling["skip_special_tokens"] = False
        sampling["spaces_between_special_tokens"] = False
        if self._seeds:
            sampling["sampling_seed"] = fit_seed(request.seed, 31)
        fields = {"stream": stream, "sampling_params": sampling}
        return json_object(fields, "input_ids", request.prompt)

    def reader(self, request: Request) -> SglangReader:
        """Return a reader of cumulative ids."""
        return SglangReader()


class SglangReader:
    """Reads ``output_ids`` and ``meta_info``.

    A stream's ``output_ids`` are all ids so far or only the new ones, by the server's options;
    ``meta_info.completion_tokens`` counts all of them either way.
    """

    by_ids = False

    def __init__(self) -> None:
        self._seen = 0

    def read(self, event: dict[str, Any]) -> Chunk:
        """Return the new ids of ``event``, without the stop id."""
        if event.get("error"):
            raise_event_error(event["error"])
        ids = token_list(event.get("output_ids"))
        meta = event.get("meta_info")
        count = meta.get("completion_tokens") if isinstance(meta, dict) else None
        if not isinstance(meta, dict) or type(count) is not int:
            raise BadReply(f"no meta_info.completion_tokens: {json.dumps(event)[:200]}")
        fresh = count - self._seen
        self._seen = max(self._seen, count)
        if fresh > len(ids):
            raise BadReply(f"{fresh} new tokens by count, but only {len(ids)} ids")
        new = ids[len(ids) - fresh :] if fresh > 0 else []
        reason = meta.get("finish_reason")
        if not isinstance(reason, dict):
            return finished(new, reason, None, includes_stop=False)
        kind, matched = reason.get("type"), reason.get("matched")
        if kind == "abort":
            message = f"SGLang aborted the request: {reason.get('message')}"
            refused = reason.get("status_code") == 400
            raise EngineRefused(message) if refused else EngineUnavailable(message)
        stop_id = matched if type(matched) is int else None
        return finished(new, kind, stop_id, includes_stop=stop_id is not None)
