"""Bounded concurrency for all commands: lazily started jobs, draining, interruption.

A run that should stop *drains*: no job starts, and each job in flight ends at its next safe point,
where its state is in the journal. A drain does not wait until samples are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator
from functools import partial
from typing import TypeVar

from tessy.runtime.admission import Admission

log = logging.getLogger(__name__)

Job = TypeVar("Job")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Allocations between two garbage collections; Python's default is 2,000 or fewer.
_YOUNG_OBJECTS = 10_000


class Draining(Exception):
    """Raised by :meth:`Stop.check` to end a job that stays in flight, neither done nor failed."""


class Stop:
    """A request to stop the run: an interruption, or a spent budget.

    Attributes:
        interrupted: Whether :meth:`request` was called.
    """

    def __init__(self, spent: Callable[[], bool] = lambda: False) -> None:
        """Initialize without a request.

        Args:
            spent: Returns whether the budget of the run is spent; must not revert to False.
        """
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
        """End the job if the run should stop; called at safe points, e.g. before a request.

        Raises:
            Draining: The run should stop.
        """
        if self.requested:
            raise Draining


async def run_all(
    jobs: AsyncIterable[Job],
    work: Callable[[Job], Awaitable[int | None]],
    *,
    admission: Admission[Job],
    stop: Stop,
) -> None:
    """Run ``work`` for every job, with the concurrency that ``admission`` allows.

    Args:
        jobs: Consumed lazily: the next job is taken when the previous one has started. A source
            that waits for jobs must end when ``stop`` is requested.
        work: Runs one job and returns the number of tokens it generated, for ``admission``. It
            must record failures of the job itself. :class:`Draining` leaves the job in flight; any
            other exception ends the run.
        admission: Decides when the next job starts; must admit a job if none is in flight.
        stop: Ends the run early; check ``stop.requested`` afterwards.

    Raises:
        Exception: The first exception of a job, after all other jobs were cancelled.
    """
    freed = asyncio.Event()

    async def do(job: Job) -> int | None:
        with contextlib.suppress(Draining):
            return await work(job)
        return None

    def ended(job: Job, task: asyncio.Task[int | None]) -> None:
        # A callback, because a task cancelled before its first step runs no code.
        failed = task.cancelled() or task.exception() is not None
        admission.finished(job, None if failed else task.result())
        freed.set()

    try:
        with _infrequent_gc():
            async with asyncio.TaskGroup() as tasks:
                async for job in jobs:
                    # After a stop all jobs end soon, so waiting for one of them suffices.
                    while not stop.requested and not admission.try_admit(job):
                        freed.clear()
                        await freed.wait()
                    if stop.requested:
                        break
                    tasks.create_task(do(job)).add_done_callback(partial(ended, job))
                    # Yield to running jobs between starts.
                    await asyncio.sleep(0)
    except BaseExceptionGroup as group:
        first = _first(group)
        raise first from first.__cause__


@contextlib.contextmanager
def _infrequent_gc() -> Generator[None, None, None]:
    """Exempt existing objects from garbage collection and collect less often.

    A full collection traverses all objects of imported libraries and blocks the event loop.
    """
    before = gc.get_threshold()
    if gc.get_freeze_count() or not 0 < before[0] < _YOUNG_OBJECTS:
        yield  # already set by another run or by the caller
        return
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _first(error: BaseException) -> BaseException:
    """Return the first leaf exception of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def interruptible(
    spent: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Stop, None]:
    """Request a stop on the first SIGINT or SIGTERM, and abort on the second.

    The second signal cancels the current task, which raises KeyboardInterrupt. Outside the main
    thread no handlers are installed. Former handlers are restored on exit.

    Args:
        spent: See :class:`Stop`.

    Raises:
        KeyboardInterrupt: A second signal was received.
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
    except (NotImplementedError, RuntimeError, ValueError):
        return  # not the main thread, or a platform without such handlers
    # Callbacks run in reverse order: remove the loop's handler, then restore the former one.
    handlers.callback(signal.signal, number, before)
    handlers.callback(loop.remove_signal_handler, number)
