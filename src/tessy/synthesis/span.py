"""One request's draft on its way into the machine: chunks as they arrive, judgements as they come.

All of it happens in the callbacks of the event loop. The sample's task sleeps until the span has
ended: waking it for every token and every judgement would cost more than handling them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tessy.boundary.base import Judgement, View
from tessy.engines.base import Chunk, Tap, join
from tessy.synthesis.ahead import Ahead
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.moves import Ask


class Span:
    """Drives the machine through one request.

    Tokens that arrive while the predictor works wait and come as one chunk: nothing is read twice
    and nothing overtakes.

    Attributes:
        judging_seconds: Time waited for the predictor.
    """

    def __init__(
        self,
        machine: Cooperation,
        judge: Callable[[View], Awaitable[Judgement]],
        ahead: Ahead,
        clock: Callable[[], float],
    ) -> None:
        """Nothing is sent yet.

        Args:
            machine: Takes the draft.
            judge: Asks the author's predictor.
            ahead: Keeps what is asked early.
            clock: Seconds, monotonic.
        """
        self.judging_seconds = 0.0
        self._machine, self._judge, self._ahead, self._clock = machine, judge, ahead, clock
        self._tap = Tap(self._take)
        self._held: list[Chunk] = []
        self._streaming = True  # more may come
        self._asked: asyncio.Future[Judgement] | None = None
        self._view: View | None = None
        self._since = 0.0
        self._error: BaseException | None = None
        self._settled: asyncio.Future[None] | None = None  # somebody waits for the last judgement

    async def run(self, ask: Ask) -> None:
        """Send ``ask``; returns when the span has ended and nothing is left to judge.

        Raises:
            Exception: What the machine, the engine or the predictor raised.
        """
        try:
            await self._ahead.feed(ask, self._tap)
            if self._asked is not None:
                self._settled = asyncio.get_running_loop().create_future()
                await self._settled
            if self._error is not None:
                raise self._error
        finally:
            self._tap.close()
            asked, self._asked = self._asked, None
            if asked is not None:
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)

    def _take(self, chunk: Chunk) -> None:
        if self._tap.closed:
            return
        if self._asked is not None:
            self._held.append(chunk)
        else:
            self._go_on(chunk)

    def _go_on(self, chunk: Chunk | None) -> None:
        """Take ``chunk`` and what waits, until a judgement is needed."""
        machine = self._machine
        try:
            while True:
                if chunk is not None:
                    self._streaming = chunk.finish is None
                    machine.receive(chunk)
                view = machine.unjudged()
                if view is not None:
                    self._ask(view)
                    return
                if machine.over:
                    self._tap.close()
                    return
                if not self._held:
                    if self._streaming:
                        self._ahead.follow(machine.early)
                    return
                chunk = join(self._held)
                self._held.clear()
        except Exception as error:
            self._fail(error)

    def _ask(self, view: View) -> None:
        self._since = self._clock()
        self._view = view
        self._asked = asyncio.ensure_future(self._judge(view))
        self._asked.add_done_callback(self._judged)

    def _judged(self, asked: asyncio.Future[Judgement]) -> None:
        if self._asked is not asked or self._view is None:
            return
        self._asked = None
        self.judging_seconds += self._clock() - self._since
        try:
            self._machine.judged(self._view, asked.result())
        except (Exception, asyncio.CancelledError) as error:
            self._fail(error)
        else:
            self._go_on(None)
        if self._asked is None and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._tap.close()
