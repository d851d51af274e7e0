"""Durable appends: a thread that groups commits, files that only grow.

Callers queue items and continue; a thread writes queued items as one durable batch.
Many callers that wait for durability share one fsync, and the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, Self, TypeVar

from tessy.core.errors import StorageError
from tessy.storage.atomic import sync_path
from tessy.storage.jsonl import is_row

log = logging.getLogger(__name__)
Item = TypeVar("Item")


class GroupWriter(Generic[Item]):
    """A thread that makes items durable in the order they were put, in batches.

    An error of ``write`` ends the thread; from then on every call raises :class:`StorageError`.
    """

    def __init__(
        self, write: Callable[[list[Item]], None], *, name: str, delay: float = 0.0
    ) -> None:
        """Start the thread.

        Args:
            write: Makes one batch durable; is called in the thread.
            name: Name of the thread.
            delay: Seconds to collect a batch, unless a caller waits for it.
        """
        self._write = write
        self._delay = delay
        self._items: list[Item] = []
        self._waiters: list[Future[None]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._error: Exception | None = None
        # A daemon, so that a program that ends in an error without close() is not held up.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue ``item``; does not wait.

        Raises:
            StorageError: An earlier batch could not be written.
        """
        with self._changed:
            self._check()
            self._items.append(item)
            if len(self._items) == 1:
                self._changed.notify()

    async def flush(self) -> None:
        """Return once everything put so far is durable.

        Raises:
            StorageError: It could not be written.
        """
        waiter: Future[None] = Future()
        with self._changed:
            self._check()
            self._waiters.append(waiter)
            self._changed.notify()
        await asyncio.wrap_future(waiter)

    def close(self) -> None:
        """Write queued items and end the thread; blocks until then. May be called again.

        Raises:
            StorageError: Something could not be written.
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
        """Write what waits and release what is held.

        Raises:
            StorageError: Something could not be written.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(*([StorageError] if kind else [])):  # never hide the first error
            self.close()


class AppendFile:
    """A file of lines that only grows; a line is there once ``append`` returns."""

    def __init__(self, path: Path) -> None:
        """Open ``path``, creating it if missing, and repair its end (:func:`repair`)."""
        self.path = path
        repair(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        sync_path(path.parent)
        # The delay only bridges the moment between a put and its flush.
        self._writer = GroupWriter(self._write, name=f"append to {path.name}", delay=0.05)

    async def append(self, line: bytes) -> None:
        r"""Append ``line`` (with its ``\n``); return once it is durable.

        A caller that is cancelled while it waits does not undo the line.

        Raises:
            StorageError: It could not be written; the file ends with the last whole line.
        """
        self._writer.put(line)
        await self._writer.flush()

    def close(self) -> None:
        """Write what waits and close the file.

        Raises:
            StorageError: Something could not be written.
        """
        try:
            self._writer.close()
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _write(self, lines: list[bytes]) -> None:
        try:
            for line in lines:
                self._write_whole(line)
            os.fsync(self._fd)
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error}; free some space and give the same "
                "command again: rows already made are kept"
            ) from error

    def _write_whole(self, line: bytes) -> None:
        start = os.fstat(self._fd).st_size
        written = os.write(self._fd, line)
        if written < len(line):
            os.ftruncate(self._fd, start)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def repair(path: Path) -> None:
    """Repair the end of a file of JSON lines after a crash.

    A whole last row without its newline gets one. A last line that is no row is moved to
    ``<path>.torn``; after a power cut there may be several.
    """
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = _line_start(file.fileno(), end)
            content = os.pread(file.fileno(), end - start, start)
            if is_row(content) or not content.strip():
                break
            log.warning("%s: the last line is torn; moved to %s.torn", path, path.name)
            with path.with_name(path.name + ".torn").open("ab") as torn:
                torn.write(content.rstrip(b"\n") + b"\n")
                torn.flush()
                os.fsync(torn.fileno())
            end = file.truncate(start)
        if end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n":
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())


def _line_start(fd: int, end: int) -> int:
    """Return where the line starts whose last byte (a newline or not) is at ``end - 1``."""
    block = 1 << 16
    stop = end - 1  # a newline at end - 1 belongs to the line
    while stop > 0:
        begin = max(0, stop - block)
        found = os.pread(fd, stop - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        stop = begin
    return 0
