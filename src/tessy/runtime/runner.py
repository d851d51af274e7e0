"""Bounded fan-out for every command: lazily started jobs, draining, interruption.

A run that is asked to stop *drains*: no further job starts, and each job in flight stops at its
next safe point, where its state is in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from functools import partial
from typing import TypeVar

from tessy.runtime.admission import Admission

log = logging.getLogger(__name__)

Job = TypeVar("Job")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How many are made between two looks of the garbage collector; Python looks every 2,000 or sooner.
_YOUNG_OBJECTS = 10_000


class Draining(Exception):
    """Raised in a job by :meth:`Stop.check`; the job stays in flight, neither done nor failed."""


class Stop:
    """Whether the run should stop: on request, or because its budget is used up.

    Attributes:
        asked: A stop was requested.
    """

    def __init__(self, spent: Callable[[], bool] = lambda: False) -> None:
        """Create a stop that is not requested.

        Args:
            spent: Whether the budget of the run is used up; once true, it stays true.
        """
        self.asked = False
        self._spent = spent

    @property
    def requested(self) -> bool:
        """Whether the run should drain."""
        return self.asked or self._spent()

    def request(self) -> None:
        """Request that the run drains."""
        self.asked = True

    def check(self) -> None:
        """Raise if the run should stop; called before requests and between retries.

        Raises:
            Draining: The run should stop.
        """
        if self.requested:
            raise Draining


async def run_all(
    jobs: Iterable[Job],
    work: Callable[[Job], Awaitable[int | None]],
    *,
    admission: Admission[Job],
    stop: Stop,
) -> None:
    """Call ``work`` for every job, with as many in flight as ``admission`` allows.

    Args:
        jobs: Pulled one by one, each when the previous one has started.
        work: Does one job; returns the tokens it generated, for the admission. It records failures
            of its job itself; an exception ends the run, except :class:`Draining`, which leaves the
            job in flight.
        admission: Decides when the next job may start; admits a job at the latest when none is in
            flight.
        stop: Ends the run early; check ``stop.requested`` afterwards.

    Raises:
        Exception: The first exception of a job, after all others were cancelled and have ended.
    """
    freed = asyncio.Event()

    async def do(job: Job) -> int | None:
        with contextlib.suppress(Draining):
            return await work(job)
        return None

    def ended(job: Job, task: asyncio.Task[int | None]) -> None:
        # A callback, because a task that is cancelled before its first step never runs a line.
        failed = task.cancelled() or task.exception() is not None
        admission.finished(job, None if failed else task.result())
        freed.set()

    try:
        with _collecting_seldom():
            async with asyncio.TaskGroup() as tasks:
                for job in jobs:
                    # Every job in flight ends soon after a stop, so waiting for one is enough.
                    while not stop.requested and not admission.try_admit(job):
                        freed.clear()
                        await freed.wait()
                    if stop.requested:
                        break
                    tasks.create_task(do(job)).add_done_callback(partial(ended, job))
                    # A thousand starts in a row would hold up those that run.
                    await asyncio.sleep(0)
    except BaseExceptionGroup as group:
        first = _first(group)
        raise first from first.__cause__


@contextlib.contextmanager
def _collecting_seldom() -> Generator[None, None, None]:
    """Let the garbage collector ignore existing objects, and run less often.

    torch and transformers alone have hundreds of thousands of objects, and each collection would
    traverse them all.
    """
    before = gc.get_threshold()
    if gc.get_freeze_count() or not 0 < before[0] < _YOUNG_OBJECTS:
        yield  # an outer run, or the caller, has frozen it already
        return
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _first(error: BaseException) -> BaseException:
    """Return the first single exception in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def interruptible(
    spent: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Stop, None]:
    """Turn the first SIGINT or SIGTERM into a stop request, and the second into KeyboardInterrupt.

    The second signal cancels the entering task. Outside the main thread signals are not handled.
    Previous handlers are restored at the end.

    Args:
        spent: As for :class:`Stop`.

    Raises:
        KeyboardInterrupt: A second signal arrived.
    """
    stop = Stop(spent)
    task = asyncio.current_task()
    cut_short = False

    def on_signal() -> None:
        nonlocal cut_short
        if not stop.asked:
            log.warning("draining in-flight requests; interrupt again to abort")
            stop.request()
        elif task is not None:
            cut_short = True
            task.cancel()

    with contextlib.ExitStack() as handlers:
        for number in _SIGNALS:
            _handle(number, on_signal, handlers)
        try:
            yield stop
        except asyncio.CancelledError:
            if not cut_short or task is None:
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
    # Callbacks run last first: the loop's handler goes, then the former one is put back.
    handlers.callback(signal.signal, number, before)
    handlers.callback(loop.remove_signal_handler, number)
