"""Figures in vLLM's and SGLang's metrics, and in SGLang's server info (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tessy.inference.base import ServerCounters

_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
# Of requests and of generated tokens. vLLM's request_success does not count aborted requests, which
# most of ours are; a first token comes once a request.
_COUNTERS = (
    ("vllm:time_to_first_token_seconds_count", "vllm:generation_tokens_total"),
    ("sglang:num_requests_total", "sglang:generation_tokens_total"),
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

_CACHE_OFF = (
    "Prefix caching is off on this server, so every hand-over reads the whole text again; "
    "start vLLM without --no-enable-prefix-caching, SGLang without --disable-radix-cache."
)


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """KV cache of one server; None where unknown."""

    capacity_tokens: int | None = None  # over all its engines
    prefix_caching: bool | None = None
    engines: int = 1  # behind this address (vLLM's data parallelism), each with its own cache
    notes: tuple[str, ...] = ()  # what to fix


def vllm_facts(metrics: str) -> CacheFacts:
    """Read vLLM's ``/metrics``: one ``vllm:cache_config_info`` line per engine."""
    lines = [dict(_LABEL.findall(labels)) for labels in _INFO.findall(metrics)]
    if not lines:
        return CacheFacts()
    capacities = [_capacity(labels) for labels in lines]
    known = [tokens for tokens in capacities if tokens is not None]
    caching = {"True": True, "False": False}.get(lines[0].get("enable_prefix_caching", ""))
    notes = (_CACHE_OFF,) if caching is False else ()
    return CacheFacts(
        capacity_tokens=sum(known) if len(known) == len(lines) else None,
        prefix_caching=caching,
        engines=len(lines),
        notes=notes,
    )


def server_counters(metrics: str) -> ServerCounters | None:
    """Read the counters in ``/metrics``, over all engines and labels; None without them."""
    for names in _COUNTERS:
        requests, tokens = (_sum(metrics, name) for name in names)
        if requests is not None and tokens is not None:
            return ServerCounters(requests, tokens)
    return None


def _sum(metrics: str, name: str) -> int | None:
    samples = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)", metrics, re.MULTILINE)
    try:
        return int(sum(map(float, samples))) if samples else None
    except (ValueError, OverflowError):  # not a number, or not a finite one
        return None


def sglang_facts(info: dict[str, Any]) -> CacheFacts:
    """Read SGLang's ``/get_server_info``."""
    capacity = info.get("max_total_num_tokens")
    off = info.get("disable_radix_cache")
    return CacheFacts(
        capacity_tokens=capacity if type(capacity) is int and capacity > 0 else None,
        prefix_caching=not off if isinstance(off, bool) else None,
        notes=(_CACHE_OFF,) if off is True else (),
    )


def _capacity(labels: dict[str, str]) -> int | None:
    tokens = _number(labels.get("kv_cache_size_tokens"))
    if tokens is None:  # older vLLM; exact but for models with several kinds of attention
        blocks, size = _number(labels.get("num_gpu_blocks")), _number(labels.get("block_size"))
        tokens = blocks * size if blocks is not None and size is not None else None
    return tokens if tokens else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
