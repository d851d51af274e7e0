"""One request's draft on its way into the machine: chunks as they arrive, judgements as they come.

All of it happens in the callbacks of the event loop. The sample's task sleeps until the span has
ended: waking it for every token and every judgement would cost more than handling them.
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
    """Drives the machine through one request.

    Tokens that arrive while the predictor works wait and come as one chunk: nothing is read twice
    and nothing overtakes.

    Attributes:
        judging_seconds: Time waited for the predictor.
    """

    def __init__(
        self,
        machine: Cooperation,
        predictor: BoundaryPredictor,
        ahead: HandoverPrefetch,
        clock: Callable[[], float],
    ) -> None:
        """Nothing is sent yet.

        Args:
            machine: Takes the draft.
            predictor: The author's.
            ahead: Keeps what is asked early.
            clock: Seconds, monotonic.
        """
        self.judging_seconds = 0.0
        self._machine, self._predictor = machine, predictor
        self._ahead, self._clock = ahead, clock
        self._tap = ChunkSink(self._take)
        self._held: list[Chunk] = []
        self._streaming = True  # more may come
        self._asked: PredictionRequest | None = None
        self._asking: PendingPrediction | None = None
        self._since: float | None = None  # somebody waits for the answer
        self._error: BaseException | None = None
        self._settled: asyncio.Future[None] | None = None  # somebody waits for the last judgement

    async def run(self, move: Generate) -> None:
        """Send ``move``; returns when the span has ended and nothing is left to judge.

        Raises:
            Exception: What the machine, the engine or the predictor raised.
        """
        try:
            await self._ahead.stream_into(move, self._tap)
            self._streaming = False
            if self._asked is not None and self._answered():
                self._go_on(None)
            if self._asked is not None:
                self._settled = asyncio.get_running_loop().create_future()
                await self._settled
            if self._error is not None:
                raise self._error
        finally:
            self._tap.close()
            if self._asked is not None and self._asking is not None:
                self._asked = None
                self._asking.cancel()
                await self._asking.wait_closed()
            self._asking = None  # it knows this span: neither would be freed at once

    def _take(self, chunk: Chunk) -> None:
        if self._asked is None or (self._answered() and not self._held):
            self._go_on(chunk)
            return
        self._held.append(chunk)
        if self._asked is None and self._error is None:
            self._go_on(None)

    def _go_on(self, chunk: Chunk | None) -> None:
        """Take ``chunk`` and what waits, until a judgement is needed."""
        machine = self._machine
        try:
            while True:
                if chunk is not None:
                    self._streaming = self._streaming and chunk.finish is None
                    machine.receive(chunk)
                    view = machine.pending_prediction()
                    if view is not None:
                        self._ask(view)
                        return
                if machine.over:
                    for late in self._held:  # for the count
                        machine.receive(late)
                    self._tap.close()
                    return
                # Also when tokens wait: one of them may settle what the early request is for.
                if self._streaming:
                    self._ahead.follow(machine.early)
                if not self._held:
                    return
                chunk = join(self._held)
                self._held.clear()
        except Exception as error:
            self._fail(error)

    def _ask(self, view: PredictionRequest) -> None:
        # What is under way early may have to be left, and the end of a stream waits for its answer.
        calm = self._machine.calm if self._streaming and not self._ahead.busy else None
        self._since = self._clock() if calm is None else None
        self._asked = view
        asking = submit(self._predictor, view, self._told, calm)
        if self._asked is view:  # not answered already, and another one asked
            self._asking = asking

    def _answered(self) -> bool:
        """Take the answer if it was kept back; if not, it is waited for from now on."""
        answer = None if self._asking is None else self._asking.take_withheld()
        if answer is None and self._since is None:
            self._since = self._clock()
        return answer is not None and self._judged(answer)

    def _judged(self, answer: Prediction) -> bool:
        view, self._asked = self._asked, None
        if view is None:  # too late
            return False
        if self._since is not None:
            self.judging_seconds += self._clock() - self._since
        try:
            self._machine.judged(view, answer)
        except Exception as error:
            self._fail(error)
            return False
        return True

    def _told(self, answer: Prediction | BaseException) -> None:
        if isinstance(answer, BaseException):
            if self._asked is not None:
                self._fail(answer)
        elif self._judged(answer):
            self._go_on(None)
        if self._asked is None and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._error, self._asked = error, None  # no answer will come, or none is wanted
        self._tap.close()
