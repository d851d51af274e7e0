"""The lock of a run directory: at most one process writes to it."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Self

from tessy.core.errors import RunError


class FileLock:
    """An exclusive lock on the directory of the lock file ``path``, released at process exit.

    If another process holds it, :class:`RunError` names its host and process id.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(path)
        except BaseException:
            os.close(self._fd)
            raise

    def _acquire(self, path: Path) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._fd, 300, 0).decode("utf-8", "replace").strip()
            raise RunError(
                f"{path.parent} is in use by another process ({owner or 'just starting'}); wait "
                "for it, stop it, or choose another directory"
            ) from None
        # Between open and flock another process may have moved the directory away.
        if not path.exists() or os.fstat(self._fd).st_ino != path.stat().st_ino:
            raise RunError(f"{path.parent} was just moved by another process; try again")
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"host {socket.gethostname()}, pid {os.getpid()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
