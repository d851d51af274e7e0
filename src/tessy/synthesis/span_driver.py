"""One request's draft on its way into the cooperation: chunks and predictions as they arrive.

Everything runs in callbacks of the event loop. The sample's task sleeps until the span has ended,
because waking it for every token costs more than handling the token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tessy.boundary.base import (
    BoundaryPredictor,
    PendingPrediction,
    Prediction,
    PredictionRequest,
    submit,
)
from tessy.inference.base import Chunk, ChunkSink, join
from tessy.synthesis.actions import Generate
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.prefetch import HandoverPrefetch


class SpanDriver:
    """Drives the cooperation through one request.

    Tokens that arrive while the predictor runs are buffered and delivered as one chunk, so nothing
    is read twice and the order is kept.

    Attributes:
        predictor_seconds: Time spent waiting for the predictor.
    """

    def __init__(
        self,
        machine: Cooperation,
        predictor: BoundaryPredictor,
        prefetch: HandoverPrefetch,
        clock: Callable[[], float],
    ) -> None:
        """Create a driver; :meth:`run` sends the request.

        Args:
            machine: Receives the draft.
            predictor: The author's predictor.
            prefetch: Holds prefetched requests.
            clock: Monotonic clock, in seconds.
        """
        self.predictor_seconds = 0.0
        self._machine, self._predictor = machine, predictor
        self._prefetch, self._clock = prefetch, clock
        self._sink = ChunkSink(self._take)
        self._buffered: list[Chunk] = []
        self._streaming = True  # more may come
        self._pending: PredictionRequest | None = None
        self._submission: PendingPrediction | None = None
        self._waiting_since: float | None = None  # start of the wait for the prediction
        self._error: BaseException | None = None
        self._drained: asyncio.Future[None] | None = None  # set for the last prediction

    async def run(self, action: Generate) -> None:
        """Send the request; return when the span has ended and no prediction is pending.

        Raises:
            Exception: An error of the cooperation, the engine or the predictor.
        """
        try:
            await self._prefetch.stream_into(action, self._sink)
            self._streaming = False
            if self._pending is not None and self._take_withheld():
                self._advance(None)
            if self._pending is not None:
                self._drained = asyncio.get_running_loop().create_future()
                await self._drained
            if self._error is not None:
                raise self._error
        finally:
            self._sink.close()
            if self._pending is not None and self._submission is not None:
                self._pending = None
                self._submission.cancel()
                await self._submission.wait_closed()
            self._submission = None  # break the reference cycle

    def _take(self, chunk: Chunk) -> None:
        if self._pending is None or (self._take_withheld() and not self._buffered):
            self._advance(chunk)
            return
        self._buffered.append(chunk)
        if self._pending is None and self._error is None:
            self._advance(None)

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
                        self._submit(request)
                        return
                if machine.over:
                    for late in self._buffered:  # for the count
                        machine.receive(late)
                    self._sink.close()
                    return
                # Also when tokens wait: one of them may settle what the early request is for.
                if self._streaming:
                    self._prefetch.follow(machine.likely_next)
                if not self._buffered:
                    return
                chunk = join(self._buffered)
                self._buffered.clear()
        except Exception as error:
            self._fail(error)

    def _submit(self, request: PredictionRequest) -> None:
        # What is under way early may have to be left, and the end of a stream waits for its answer.
        calm = self._machine.continues if self._streaming and not self._prefetch.busy else None
        self._waiting_since = self._clock() if calm is None else None
        self._pending = request
        submission = submit(self._predictor, request, self._on_result, calm)
        if self._pending is request:  # no result yet, and no newer request
            self._submission = submission

    def _take_withheld(self) -> bool:
        """Apply a withheld prediction if there is one; otherwise measure the wait from now on."""
        prediction = None if self._submission is None else self._submission.take_withheld()
        if prediction is None and self._waiting_since is None:
            self._waiting_since = self._clock()
        return prediction is not None and self._apply(prediction)

    def _apply(self, prediction: Prediction) -> bool:
        request, self._pending = self._pending, None
        if request is None:  # too late
            return False
        if self._waiting_since is not None:
            self.predictor_seconds += self._clock() - self._waiting_since
        try:
            self._machine.judged(request, prediction)
        except Exception as error:
            self._fail(error)
            return False
        return True

    def _on_result(self, prediction: Prediction | BaseException) -> None:
        if isinstance(prediction, BaseException):
            if self._pending is not None:
                self._fail(prediction)
        elif self._apply(prediction):
            self._advance(None)
        if self._pending is None and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._error, self._pending = error, None  # no answer will come, or none is wanted
        self._sink.close()
