"""A thread that commits writes in groups.

Callers enqueue items without blocking; the thread takes all queued items as one batch and makes
them durable. Callers waiting for durability share one fsync, and the event loop never blocks on
the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Self, TypeVar

from tessy.core.errors import StorageError

Item = TypeVar("Item")


class GroupWriter(Generic[Item]):
    """A thread that makes items durable in batches, in the order of :meth:`put`.

    If ``write`` raises, the thread ends and every later call raises :class:`StorageError`.
    """

    def __init__(
        self, write: Callable[[list[Item]], None], *, name: str, delay: float = 0.0
    ) -> None:
        """Start the thread.

        Args:
            write: Makes one batch durable; called in the thread.
            name: Name of the thread.
            delay: Seconds to collect a batch, cut short by :meth:`flush`.
        """
        self._write = write
        self._delay = delay
        self._items: list[Item] = []
        self._waiters: list[Future[None]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._error: Exception | None = None
        # A daemon: a program that fails before close() can exit.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Enqueue ``item`` without blocking.

        Raises:
            StorageError: An earlier batch could not be written.
        """
        with self._changed:
            self._check()
            self._items.append(item)
            if len(self._items) == 1:
                self._changed.notify()

    async def flush(self) -> None:
        """Wait until all items enqueued so far are durable.

        Raises:
            StorageError: An item could not be written.
        """
        waiter: Future[None] = Future()
        with self._changed:
            self._check()
            self._waiters.append(waiter)
            self._changed.notify()
        await asyncio.wrap_future(waiter)

    def close(self) -> None:
        """Write all queued items and end the thread; blocks. Idempotent.

        Raises:
            StorageError: An item could not be written.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        if self._error is not None:
            raise StorageError(str(self._error)) from self._error

    def _check(self) -> None:
        if self._error is not None:
            raise StorageError(str(self._error)) from self._error
        if self._closing:
            raise RuntimeError(f"{self._thread.name} is closed")

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._waiters or self._closing)
                self._changed.wait_for(lambda: self._waiters or self._closing, self._delay)
                items, self._items = self._items, []
                waiters, self._waiters = self._waiters, []
                closing = self._closing
            try:
                if items:
                    self._write(items)
            except Exception as error:
                self._fail(error, waiters)
                return
            for waiter in waiters:
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(None)

    def _fail(self, error: Exception, waiters: list[Future[None]]) -> None:
        with self._changed:
            self._error = error
            waiters += self._waiters
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(StorageError(str(error)))


class Closeable(ABC):
    """A context manager that calls :meth:`close` at the end of its block."""

    @abstractmethod
    def close(self) -> None:
        """Write all pending data and release resources.

        Raises:
            StorageError: Data could not be written.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(*([StorageError] if kind else [])):  # keep the first error
            self.close()
