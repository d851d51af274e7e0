"""Requests to stop a run: Ctrl-C, SIGTERM, or a spent budget.

A run that should stop *drains*: no job starts, and each job in flight ends at its next safe point,
where its state is in the journal. A drain does not wait until samples are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncGenerator, Callable

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Draining(Exception):
    """Raised by :meth:`Stop.check` to end a job that stays in flight, neither done nor failed."""


class Stop:
    """A request to stop the run: an interruption, or a spent budget."""

    def __init__(self, spent: Callable[[], bool] = lambda: False) -> None:
        """Initialize without a request; ``spent`` must not revert to False."""
        self.interrupted = False
        self._spent = spent

    @property
    def requested(self) -> bool:
        """Whether the run should drain."""
        return self.interrupted or self._spent()

    def request(self) -> None:
        """Request that the run drains."""
        self.interrupted = True

    def check(self) -> None:
        """Raise :class:`Draining` if the run should stop; called at a job's safe points."""
        if self.requested:
            raise Draining


@contextlib.asynccontextmanager
async def interruptible(spent: Callable[[], bool] = lambda: False) -> AsyncGenerator[Stop, None]:
    """Request a stop on the first SIGINT or SIGTERM; the second one raises KeyboardInterrupt.

    The second signal cancels the current task. Outside the main thread no handlers are installed.
    Former handlers are restored on exit.
    """
    stop = Stop(spent)
    task = asyncio.current_task()
    aborted = False

    def on_signal() -> None:
        nonlocal aborted
        if not stop.interrupted:
            log.warning("stopping at the next safe point; interrupt again to abort")
            stop.request()
        elif task is not None:
            aborted = True
            task.cancel()

    with contextlib.ExitStack() as handlers:
        for number in _SIGNALS:
            _handle(number, on_signal, handlers)
        try:
            yield stop
        except asyncio.CancelledError:
            if not aborted or task is None:
                raise
            task.uncancel()
            raise KeyboardInterrupt from None


def _handle(
    number: signal.Signals, on_signal: Callable[[], None], handlers: contextlib.ExitStack
) -> None:
    loop = asyncio.get_running_loop()
    before = signal.getsignal(number)
    try:
        loop.add_signal_handler(number, on_signal)
    # Not the main thread, or a platform without such handlers: signals act as before.
    except (NotImplementedError, RuntimeError, ValueError):
        return
    # Callbacks run in reverse order: remove the loop's handler, then restore the former one.
    handlers.callback(signal.signal, number, before)
    handlers.callback(loop.remove_signal_handler, number)
