"""A thread that commits writes in groups: callers share one fsync; the event loop never blocks."""

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

    The thread calls ``write`` with each batch, which it collects for ``delay`` seconds or until
    :meth:`flush`. If ``write`` raises, the thread ends and every later call raises
    :class:`StorageError`.
    """

    def __init__(
        self, write: Callable[[list[Item]], None], *, name: str, delay: float = 0.0
    ) -> None:
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
        """Enqueue ``item`` without blocking."""
        with self._changed:
            self._check()
            self._items.append(item)
            if len(self._items) == 1:
                self._changed.notify()

    async def flush(self) -> None:
        """Wait until all items enqueued so far are durable."""
        waiter: Future[None] = Future()
        with self._changed:
            self._check()
            self._waiters.append(waiter)
            self._changed.notify()
        await asyncio.wrap_future(waiter)

    def close(self) -> None:
        """Write all queued items and end the thread; blocks. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise StorageError(str(self._error)) from self._error

    def _check(self) -> None:
        self._raise_error()
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
        """Write all pending data and release resources; may raise StorageError."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(*([StorageError] if kind else [])):  # keep the first error
            self.close()
