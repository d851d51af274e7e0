"""Append-only files of JSON lines that survive a crash."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from tessy.core.errors import StorageError
from tessy.storage.atomic import sync_path
from tessy.storage.group_writer import GroupWriter
from tessy.storage.jsonl import is_row

log = logging.getLogger(__name__)


class AppendFile:
    """An append-only file of lines; a line is durable once :meth:`append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        repair(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        sync_path(path.parent)
        # The delay covers the moment between put() and flush().
        self._writer = GroupWriter(self._write, name=f"append to {path.name}", delay=0.05)

    async def append(self, line: bytes) -> None:
        r"""Append ``line``, including its ``\n``, and wait until it is durable.

        The line is written even if the caller is cancelled. After a StorageError the file ends with
        a whole line.
        """
        self._writer.put(line)
        await self._writer.flush()

    def close(self) -> None:
        """Write all pending lines and close the file; raises StorageError like :meth:`append`."""
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
                f"{self.path} cannot be written: {error}; free some space and run the "
                "command again: finished rows are kept"
            ) from error

    def _write_whole(self, line: bytes) -> None:
        start = os.fstat(self._fd).st_size
        count = os.write(self._fd, line)
        if count < len(line):
            os.ftruncate(self._fd, start)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def repair(path: Path) -> None:
    """Repair the end of a file of JSON lines after a crash.

    A newline is added to a complete last row. Trailing lines that are not JSON objects (several
    after a power cut) are moved to ``<path>.torn``.
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
            log.warning("%s: the last line is incomplete; moved to %s.torn", path, path.name)
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
    block = 1 << 16
    stop = end - 1  # a newline at end - 1 belongs to the line
    while stop > 0:
        begin = max(0, stop - block)
        newline = os.pread(fd, stop - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        stop = begin
    return 0
