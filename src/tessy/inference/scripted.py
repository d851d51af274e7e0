"""An engine and a codec that need no model, for tests, docs and experiments.

:class:`ByteCodec` has one id per byte and a few control ids. :class:`ScriptedEngine` generates what
a function of the text so far returns; :func:`reference_script` makes it continue one fixed text.
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
    """A codec with an id per byte, three control ids, and optional longer tokens.

    Ids 0 to 255 are bytes, 256 ends a turn, 257 ends the thinking, 258 is other markup. Ids above
    258 are longer tokens, which can straddle characters and words.
    """

    control_ids = frozenset({EOS, END_THINKING, OTHER_CONTROL})

    def __init__(self, pieces: Sequence[bytes] = ()) -> None:
        """Create a codec whose longer tokens are ``pieces``."""
        self._pieces = {piece: OTHER_CONTROL + 1 + i for i, piece in enumerate(pieces)}
        self._bytes = {token_id: piece for piece, token_id in self._pieces.items()}
        self._longest = max(map(len, pieces), default=1)
        self.digest = f"bytes-{len(pieces)}"

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, by longest match from the left."""
        return self.encode_bytes(text.encode("utf-8"))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of ``data``, which may begin inside a character."""
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
        """Return the bytes of a token; control ids look like markup."""
        if token_id < EOS:
            return bytes((token_id,))
        if token_id in self._bytes:
            return self._bytes[token_id]
        return {EOS: b"<eos>", END_THINKING: b"</think>", OTHER_CONTROL: b"<mark>"}[token_id]


class ScriptedEngine:
    """Generates the text that ``script`` returns.

    Args:
        script: Called with the UTF-8 text after the prompt (which may end inside a character) and
            the request's seed; returns the ids that follow. A control id ends the stream.
        prompt_tokens: Length of the prompt, which ``script`` does not receive.
        codec: Codec of the ids.
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
        self._script = script
        self._prompt_tokens = prompt_tokens
        self._codec = codec
        self._chunk_tokens = chunk_tokens
        self.requests: list[Request] = []

    async def probe(self) -> EngineInfo:
        """Return fixed information."""
        return EngineInfo(model="scripted", mode="local")

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Deliver what the script returns; other tasks run between two chunks."""
        self.requests.append(request)
        text_ids = request.prompt.ids[self._prompt_tokens :]
        text = b"".join(map(self._codec.token_bytes, text_ids))
        ids = list(self._script(text, request.seed))
        stop_id: int | None = None
        for index, token_id in enumerate(ids):
            if token_id in self._codec.control_ids:
                ids, stop_id = ids[:index], token_id
                break
        if len(ids) >= request.max_tokens:
            ids, stop_id = ids[: request.max_tokens], None
        for start in range(0, len(ids), self._chunk_tokens):
            if sink.closed:
                return
            sink.put(Chunk(tuple(ids[start : start + self._chunk_tokens])))
            await asyncio.sleep(0)
        if not sink.closed:
            sink.put(Chunk((), "stop" if stop_id is not None else "length", stop_id))

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = 1
    ) -> list[ScoredToken]:
        """Return probability 0.9 for a token that the script returns, 0.1 for any other."""
        scores = []
        for index in range(start, len(ids)):
            text = b"".join(map(self._codec.token_bytes, ids[self._prompt_tokens : index]))
            following = self._script(text, 0)
            likely = bool(following) and following[0] == ids[index]
            logprob = math.log(0.9 if likely else 0.1)
            scores.append(ScoredToken(logprob, 1 if likely else 2, (math.log(0.9),)[:top]))
        return scores

    def release(self, key: str) -> None:
        """No-op: the engine has no cache."""

    async def aclose(self) -> None:
        """No-op: there are no connections."""


def reference_script(
    reference: str, codec: Codec, stop_id: int = END_THINKING
) -> Callable[[bytes, int], list[int]]:
    """Return a script that completes the text to ``reference``, then ends with ``stop_id``."""
    data = reference.encode("utf-8")

    def script(text: bytes, seed: int) -> list[int]:
        if not data.startswith(text):
            raise ValueError(f"the text deviates from the reference at {text[-40:]!r}")
        remaining = data[len(text) :]
        if isinstance(codec, ByteCodec):  # may continue inside a character
            return [*codec.encode_bytes(remaining), stop_id]
        return [*codec.encode(remaining.decode("utf-8")), stop_id]

    return script
