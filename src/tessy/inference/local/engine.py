"""A model in this process, with the same interface as a server; imports torch only when used.

In float32 a stream's ids do not depend on the streams decoded beside it; in bfloat16 rounding may
decide a close draw, as on any server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tessy.core.errors import EngineRefused, ModelError
from tessy.inference.base import (
    TOP_LOGPROBS,
    Chunk,
    ChunkSink,
    EngineInfo,
    Request,
    ScoredToken,
)
from tessy.inference.local.jobs import BATCH_STREAMS, LocalJob

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LocalEngine:
    """A transformers causal language model in this process.

    Each sample's keys and values stay between its requests, and a rollback is exact.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        name: str,
        max_batch: int = BATCH_STREAMS,
        cache_tokens: int | None = None,
    ) -> None:
        """Use a model on its device, in evaluation mode; :meth:`load` is the usual way.

        At most ``max_batch`` streams are decoded together; see :func:`make_decoder` for
        ``cache_tokens``.
        """
        from tessy.inference.local.batcher import Batcher
        from tessy.inference.local.scoring import Scorer

        self._model = model
        self._worker = Batcher(model, max_batch, cache_tokens)
        self._scorer = Scorer(model, name)
        self._context = self._worker.context_tokens
        self._info = EngineInfo(
            model=name,
            mode="local",
            context_tokens=self._context,
            capacity_tokens=self._worker.capacity_tokens,
            prefix_caching=True,
        )

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str | None = None,
        max_batch: int = BATCH_STREAMS,
        trust_remote_code: bool = False,
    ) -> LocalEngine:
        """Load a model as :func:`~tessy.inference.local.model.load_model` does.

        Raises:
            ModelError: torch is not installed, or the model cannot be loaded.
        """
        try:
            from tessy.inference.local.model import load_model
        except ImportError as error:
            raise ModelError(
                f"running {str(model)!r} in this process needs torch, and it cannot be imported "
                f'({error}); pip install "tessy[torch]", or name a server'
            ) from error
        loaded = load_model(model, device=device, trust_remote_code=trust_remote_code)
        return cls(loaded, name=str(model), max_batch=max_batch)

    async def probe(self) -> EngineInfo:
        """Return the facts collected when the model was loaded."""
        return self._info

    async def stream(self, request: Request, sink: ChunkSink) -> None:
        """Continue ``request.prompt`` into ``sink``; closing it stops before the next step."""
        ids = list(request.prompt.ids)
        if not ids:
            raise self._refused(request.key, "the prompt is empty")
        if request.max_tokens < 1:
            raise self._refused(request.key, f"max_tokens is {request.max_tokens}, below 1")
        if self._context is not None and len(ids) > self._context:
            why = f"the prompt has {len(ids)} tokens, the context {self._context}"
            raise self._refused(request.key, why)
        if len(ids) == self._context:
            sink.put(Chunk((), "length"))
            return
        loop = asyncio.get_running_loop()
        job = LocalJob(request, sink, loop, loop.create_future(), ids)
        self._worker.submit(job)
        sink.on_close = job.end
        try:
            await job.ended
        finally:
            sink.on_close = None
            job.closed = True

    async def score(
        self, key: str, ids: Sequence[int], start: int = 1, *, top: int = TOP_LOGPROBS
    ) -> list[ScoredToken]:
        """Score ``ids[start:]``; concurrent requests of one sample share a pass."""
        if len(ids) <= start:
            return []
        if self._context is not None and len(ids) > self._context:
            why = f"a text of {len(ids)} tokens is longer than the context of {self._context}"
            raise self._refused(key, why)
        return await self._scorer.score(key, ids, start, top)

    def release(self, key: str) -> None:
        """Forget the keys and values of the sample ``key``."""
        self._worker.release(key)

    async def aclose(self) -> None:
        """End the worker thread; streams still open fail."""
        await asyncio.to_thread(self._worker.close)

    def _refused(self, key: str, why: str) -> EngineRefused:
        return EngineRefused(f"{key}: {why} ({self._info.model}, in this process)")
