"""Requests for a hand-over that is likely but not certain yet; prefetching changes no decision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

from tessy.boundary.base import Prediction
from tessy.inference.base import Chunk, ChunkSink, join
from tessy.synthesis.actions import Generate, PredictNext, PrefetchedTurn

Stream = Callable[[Generate, ChunkSink], Coroutine[Any, Any, None]]
Predict = Callable[[PredictNext], Awaitable[Prediction]]


class _Prefetch:
    def __init__(self, prefetched: PrefetchedTurn, stream: Stream, predict: Predict) -> None:
        self.prefetched = prefetched
        self.sent = False
        self.chunks: list[Chunk] = []
        self.sink = ChunkSink(self.chunks.append)
        predict_next = prefetched.predict_next  # first: nothing is in flight if it fails
        self.prediction: asyncio.Future[Any] | None = (
            None if predict_next is None else asyncio.ensure_future(predict(predict_next))
        )
        self.streaming: asyncio.Future[Any] | None = asyncio.create_task(self._send(stream))

    async def _send(self, stream: Stream) -> None:
        self.sent = True
        await stream(self.prefetched.generate, self.sink)

    def close(self) -> list[asyncio.Future[Any]]:
        """Cancel what is still in flight and return its tasks."""
        self.sink.close()
        tasks = [task for task in (self.streaming, self.prediction) if task is not None]
        # Break the reference cycle: a cancelled task holds its exception, which holds this object.
        self.streaming = self.prediction = None
        for task in tasks:
            task.cancel()
        return tasks


class HandoverPrefetch:
    """At most one prefetched hand-over of one sample; an async context manager."""

    def __init__(
        self,
        stream: Stream,
        predict: Predict,
        on_discarded: Callable[[Generate, int, int], None],
    ) -> None:
        """Create a prefetcher with nothing in flight.

        ``on_discarded`` is called with a request that was closed unused, the tokens it had
        received, and those generated beyond them.
        """
        self._stream, self._predict, self._on_discarded = stream, predict, on_discarded
        self._in_flight: _Prefetch | None = None
        self._ending: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.follow(None)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def follow(self, prefetched: PrefetchedTurn | None) -> None:
        """Prefetch ``prefetched`` and cancel any other prefetch."""
        in_flight = self._in_flight
        if in_flight is not None and in_flight.prefetched is not prefetched:
            self._in_flight = None
            for task in in_flight.close():
                self._ending.add(task)
                task.add_done_callback(self._on_task_done)
            if in_flight.sent:
                received = sum(len(chunk.ids) for chunk in in_flight.chunks)
                stops = sum(chunk.finish == "stop" for chunk in in_flight.chunks)
                unseen = stops + in_flight.sink.unseen
                self._on_discarded(in_flight.prefetched.generate, received, unseen)
        if prefetched is not None and self._in_flight is None:
            self._in_flight = _Prefetch(prefetched, self._stream, self._predict)

    def _on_task_done(self, task: asyncio.Future[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # mark it as retrieved

    def prediction_for(self, predict_next: PredictNext) -> Awaitable[Prediction]:
        """Return the prediction for ``predict_next``, prefetched or new."""
        in_flight = self._in_flight
        if (
            in_flight is not None
            and in_flight.prediction is not None
            and in_flight.prefetched.predict_next is predict_next
        ):
            return in_flight.prediction
        return self._predict(predict_next)

    async def stream(self, generate: Generate, sink: ChunkSink) -> None:
        """Stream ``generate`` into ``sink``, from the prefetched request if it is the same.

        Returns when the request has ended, or soon after ``sink`` was closed.
        """
        in_flight = self._in_flight
        if in_flight is None or in_flight.prefetched.generate is not generate:
            self.follow(None)
            await self._stream(generate, sink)
            return
        self._in_flight = None
        sink.close_also(in_flight.sink)
        in_flight.sink.put = sink.put
        if in_flight.chunks:
            sink.put(join(in_flight.chunks))
        try:
            if in_flight.streaming is not None:
                await in_flight.streaming
        finally:
            sink.on_close = None
            ending = [task for task in in_flight.close() if not task.done()]
            if ending:
                await asyncio.gather(*ending, return_exceptions=True)
