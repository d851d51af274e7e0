"""Requests to the HTTP engine, and their results."""

from __future__ import annotations

import pytest

from tessy.inference.base import Chunk, Request, Sampling
from tessy.inference.http.engine import HttpEngine
from tessy.inference.scripted import END_THINKING, EOS, OTHER_CONTROL, ByteCodec
from tessy.tokenization.token_ids import TokenIds
from tests.support.engine_streams import iterate
from tests.support.model_server import SGLANG, STOCK_VLLM, TEXT_ONLY, VLLM

CODEC = ByteCodec()
WIRES = {
    "generate": VLLM,
    "sglang": SGLANG,
    "completions": STOCK_VLLM,
    "text": TEXT_ONLY,
}
STREAMING_AND_NOT = pytest.mark.parametrize("streaming", [True, False])
EVERY_WIRE = pytest.mark.parametrize("wire", list(WIRES))


def make_request(
    text: str = "Q: what?", *, max_tokens: int = 64, seed: int = 11, key: str = "p 1/0"
) -> Request:
    prompt = TokenIds([*CODEC.encode(text), OTHER_CONTROL])
    sampling = Sampling(temperature=0.6, top_p=0.9, top_k=30, min_p=0.01)
    return Request(key, prompt, sampling, max_tokens, (END_THINKING, EOS), seed)


async def collect(engine: HttpEngine, request: Request) -> list[Chunk]:
    return [chunk async for chunk in iterate(engine, request)]


async def gather(engine: HttpEngine, request: Request, into: list[Chunk]) -> None:
    """Append the chunks to ``into``, which keeps those before an error."""
    async for chunk in iterate(engine, request):
        into.append(chunk)  # noqa: PERF401 - extend would lose chunks before an error


def text_of(chunks: list[Chunk]) -> str:
    return b"".join(bytes(chunk.ids) for chunk in chunks).decode()
