"""One bounded fan-out for every command: lazily started jobs, draining, interruption.

A run that is asked to stop *drains*: no job starts any more, and each one in flight leaves at its
next safe point, where its state is in the journal. Nothing waits for a sample of ten minutes.
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
    """Raised in a job by :meth:`Stop.check`: it is left in flight, neither done nor failed."""


class Stop:
    """Whether the run should stop: on request, or because its budget is used up.

    Attributes:
        asked: A stop was requested.
    """

    def __init__(self, spent: Callable[[], bool] = lambda: False) -> None:
        """Nobody has asked.

        Args:
            spent: Whether what the run may use is spent; once it is, it stays so.
        """
        self.asked = False
        self._spent = spent

    @property
    def requested(self) -> bool:
        """Whether the run shall drain."""
        return self.asked or self._spent()

    def request(self) -> None:
        """Ask the run to drain."""
        self.asked = True

    def check(self) -> None:
        """Called by jobs at safe points: before a request, between two tries.

        Raises:
            Draining: The run shall stop.
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
    """Do ``work`` for every job, as many at a time as ``admission`` lets in.

    Args:
        jobs: Pulled one by one, when the one before has started.
        work: Does one job; returns the tokens it wrote, for the admission to learn from. What
            makes a job fail is its own to record; what it raises ends the run, but
            :class:`Draining`, after which the job counts as left in flight.
        admission: When the next job may start; admits a job at the latest when none is in flight.
        stop: Ends the run early; look at ``stop.requested`` afterwards.

    Raises:
        Exception: The first a job raised, after all others were cancelled and have ended.
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
    """Have the garbage collector pass over what is there already, and look less often.

    The modules of torch and transformers alone are hundreds of thousands of objects. Going through
    them takes a tenth of the time of a run with a hundred samples in flight, and each time
    everything stands still for a fifth of a second.
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
    """The first single exception in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def interruptible(
    spent: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Stop, None]:
    """Turn the first SIGINT or SIGTERM into a request to stop, the second into an end at once.

    The second one cancels the task that entered, and comes out as KeyboardInterrupt. Outside the
    main thread signals are left alone. Handlers are put back in the end.

    Args:
        spent: As :class:`Stop` takes it.

    Raises:
        KeyboardInterrupt: A second signal came.
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
