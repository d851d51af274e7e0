"""Engines and a codec that need no model, for tests, docs and trying ideas.

``ByteCodec`` gives one id a byte and a few control ids. ``ScriptedEngine`` writes what a function
of the text so far. ``ReferenceEngine`` continues one fixed text.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from tessy.inference.base import Chunk, ChunkSink, EngineInfo, Request, ScoredToken
from tessy.tokenization.token_ids import Codec

EOS = 256
END_THINKING = 257
OTHER_CONTROL = 258


class ByteCodec:
    """Ids 0–255 are bytes; 256 ends a turn, 257 ends the thinking, 258 is some other markup.

    Ids above 258 are longer pieces, so that a token can straddle characters and words.
    """

    control_ids = frozenset({EOS, END_THINKING, OTHER_CONTROL})

    def __init__(self, pieces: Sequence[bytes] = ()) -> None:
        """A codec whose longer tokens are ``pieces``."""
        self._pieces = {piece: OTHER_CONTROL + 1 + i for i, piece in enumerate(pieces)}
        self._bytes = {token_id: piece for piece, token_id in self._pieces.items()}
        self._longest = max(map(len, pieces), default=1)
        self.digest = f"bytes-{len(pieces)}"

    def encode(self, text: str) -> list[int]:
        """Longest match from the left."""
        return self.encode_bytes(text.encode("utf-8"))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the same for bytes that may begin inside a character."""
        ids = []
        start = 0
        while start < len(data):
            for size in range(min(self._longest, len(data) - start), 0, -1):
                piece = data[start : start + size]
                if size == 1 or piece in self._pieces:
                    ids.append(self._pieces.get(piece, piece[0]))
                    start += size
                    break
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """Return the piece of ``token_id``; control ids look like markup."""
        if token_id < EOS:
            return bytes((token_id,))
        if token_id in self._bytes:
            return self._bytes[token_id]
        return {EOS: b"<eos>", END_THINKING: b"</think>", OTHER_CONTROL: b"<mark>"}[token_id]


class ScriptedEngine:
    """Generates the text that ``script`` returns.

    Args:
        script: Called with the UTF-8 text after the prompt (which may end inside a character) and
            the request's seed; returns the ids to write from there. A control id ends the stream.
        prompt_tokens: Length of the prompt, which ``script`` does not see.
        codec: To read the ids back.
        chunk_tokens: Ids per chunk.
    """

    def __init__(
        self,
        script: Callable[[bytes, int], Sequence[int]],
        *,
        prompt_tokens: int,
        codec: Codec,
        chunk_tokens: int = 1,
    ) -> None:
        """Keep the script."""
        self._script = script
        self._prompt_tokens = prompt_tokens
        self._codec = codec
        self._chunk_tokens = chunk_tokens
        self.requests: list[Request] = []

    async def probe(self) -> EngineInfo:
        """Always fine."""
        return EngineInfo(model="scripted", mode="local")

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Deliver what the script returns; other tasks run between two chunks."""
        self.requests.append(request)
        written = request.prompt.ids[self._prompt_tokens :]
        text = b"".join(map(self._codec.token_bytes, written))
        wanted = list(self._script(text, request.seed))
        ended: int | None = None
        for index, token_id in enumerate(wanted):
            if token_id in self._codec.control_ids:
                wanted, ended = wanted[:index], token_id
                break
        if len(wanted) >= request.max_tokens:
            wanted, ended = wanted[: request.max_tokens], None
        for start in range(0, len(wanted), self._chunk_tokens):
            if sink.closed:
                return
            sink.put(Chunk(tuple(wanted[start : start + self._chunk_tokens])))
            await asyncio.sleep(0)
        if not sink.closed:
            sink.put(Chunk((), "stop" if ended is not None else "length", ended))

    async def score(self, key: str, ids: Sequence[int]) -> list[ScoredToken]:
        """Return 0.9 as the probability of a token that the script writes, 0.1 for any other."""
        scores = []
        for index in range(1, len(ids)):
            text = b"".join(map(self._codec.token_bytes, ids[self._prompt_tokens : index]))
            wanted = self._script(text, 0)
            likely = bool(wanted) and wanted[0] == ids[index]
            logprob = math.log(0.9 if likely else 0.1)
            scores.append(ScoredToken(logprob, 1 if likely else 2, (math.log(0.9),)))
        return scores

    def release(self, key: str) -> None:
        """Nothing is kept."""

    async def aclose(self) -> None:
        """Nothing to close."""


def reference_script(
    reference: str, codec: Codec, stop_id: int = END_THINKING
) -> Callable[[bytes, int], list[int]]:
    """A script that writes ``reference`` on from wherever the text stands, then ``stop_id``."""
    data = reference.encode("utf-8")

    def script(text: bytes, seed: int) -> list[int]:
        if not data.startswith(text):
            raise ValueError(f"the text left the reference at {text[-40:]!r}")
        rest = data[len(text) :]
        if isinstance(codec, ByteCodec):  # may continue inside a character
            return [*codec.encode_bytes(rest), stop_id]
        return [*codec.encode(rest.decode("utf-8")), stop_id]

    return script
