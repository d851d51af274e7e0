"""Passes the chunks and predictions of a request to the machine that cuts its draft.

Everything runs in callbacks, because waking the sample's task for every token is too slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tessy.boundary.base import BoundaryPredictor, Prediction, PredictionRequest
from tessy.core.errors import EngineUnavailable
from tessy.inference.base import Chunk, ChunkSink, join
from tessy.synthesis.actions import Generate, PrefetchedTurn
from tessy.synthesis.prefetch import HandoverPrefetch


class SpanMachine(Protocol):
    """State machine that receives a draft and cuts it: a cooperation, or a single draft."""

    @property
    def over(self) -> bool:
        """Whether the span has ended, so that the stream can be closed."""

    @property
    def likely_next(self) -> PrefetchedTurn | None:
        """The next turn if a hand-over that is likely takes place."""

    def receive(self, chunk: Chunk) -> None:
        """Add the tokens of ``chunk``."""

    def pending_prediction(self) -> PredictionRequest | None:
        """Return the request for units to classify; None if there are no new ones."""

    def apply_prediction(self, request: PredictionRequest, prediction: Prediction) -> None:
        """Apply the prediction for ``request``."""


class SpanDriver:
    """Drives a machine through one request.

    Tokens that arrive while the predictor runs are buffered and delivered as one chunk, so nothing
    is read twice and the order is kept.

    Attributes:
        drafted: Tokens received, kept or not.
        stops: Stop tokens, which ended the request.
        predictor_seconds: Time in which tokens, or the end of the stream, waited for the predictor.
    """

    def __init__(
        self,
        machine: SpanMachine,
        predictor: BoundaryPredictor,
        prefetch: HandoverPrefetch,
        clock: Callable[[], float],
    ) -> None:
        self.drafted = self.stops = 0
        self.predictor_seconds = 0.0
        self._machine, self._predictor = machine, predictor
        self._prefetch, self._clock = prefetch, clock
        self._sink = ChunkSink(self._take)
        self._buffered: list[Chunk] = []
        self._streaming = True  # more may come
        self._pending: tuple[PredictionRequest, asyncio.Future[Prediction]] | None = None
        self._waiting_since: float | None = None
        self._error: BaseException | None = None
        self._drained: asyncio.Future[None] | None = None  # set after the last prediction

    @property
    def unseen(self) -> int:
        """Tokens generated beyond those received: stop tokens, and an estimate after a close."""
        return self.stops + self._sink.unseen

    async def run(self, action: Generate) -> None:
        """Send the request; return when the span has ended and no prediction is pending."""
        try:
            await self._prefetch.stream(action, self._sink)
            self._streaming = False
            if self._pending is not None:
                self._begin_wait()
                self._drained = asyncio.get_running_loop().create_future()
                await self._drained
            if self._error is not None:
                raise self._error
        finally:
            self._sink.close()
            if self._pending is not None:
                (_, prediction), self._pending = self._pending, None
                prediction.cancel()
                await asyncio.gather(prediction, return_exceptions=True)

    def _take(self, chunk: Chunk) -> None:
        self.drafted += len(chunk.ids)
        self.stops += chunk.finish == "stop"
        if self._pending is None:
            self._advance(chunk)
        else:
            self._begin_wait()
            self._buffered.append(chunk)

    def _advance(self, chunk: Chunk | None) -> None:
        """Deliver ``chunk`` and buffered tokens until a prediction is needed."""
        machine = self._machine
        try:
            while True:
                if chunk is not None:
                    self._streaming = self._streaming and chunk.finish is None
                    machine.receive(chunk)
                    request = machine.pending_prediction()
                    if request is not None:
                        prediction = asyncio.ensure_future(self._predictor.predict(request))
                        self._pending = request, prediction
                        prediction.add_done_callback(self._on_prediction)
                        return
                if machine.over:
                    self._sink.close()
                    return
                # Also when tokens wait: one of them may settle the end that is prefetched for.
                if self._streaming:
                    self._prefetch.follow(machine.likely_next)
                if not self._buffered:
                    return
                chunk = join(self._buffered)
                self._buffered.clear()
        except Exception as error:
            self._fail(error)

    def _on_prediction(self, prediction: asyncio.Future[Prediction]) -> None:
        if self._pending is None:  # cancelled
            return
        (request, _), self._pending = self._pending, None
        if self._waiting_since is not None:
            self.predictor_seconds += self._clock() - self._waiting_since
            self._waiting_since = None
        try:
            self._machine.apply_prediction(request, prediction.result())
            self._advance(None)
        except asyncio.CancelledError:
            name = self._predictor.name
            self._fail(EngineUnavailable(f"the boundary predictor {name} cancelled a request"))
        except BaseException as error:
            self._fail(error)
        if self._pending is None and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _begin_wait(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = self._clock()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._sink.close()
