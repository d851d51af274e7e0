"""Detection of what a power cut would lose of a directory: everything that is not synced.

The content of a file is durable once the file is synced, its name once its directory is synced.
:class:`Disk` observes the real system calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Used by the running process only, or synced by SQLite.
VOLATILE = ("run.lock", "run.log", "journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm")

Content = bytes | dict[str, int]  # bytes of a file; inodes by name of a directory


class Disk:
    """Observes syncs below a directory.

    Attributes:
        root: The directory; its initial content counts as durable.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root.resolve()
        self._durable = {path.lstat().st_ino: content(path) for path in walk(self.root)}
        self._early: dict[Path, list[Path]] = {}
        self._moved: list[tuple[Path, Path]] = []
        self._overtaken: list[Path] = []
        for name, watch in (
            ("fsync", self._sync),
            ("fdatasync", self._sync),
            ("replace", self._move),
            ("rename", self._move),
            ("mkdir", self._take_name),
        ):
            monkeypatch.setattr(os, name, watched(getattr(os, name), watch))

    def lost(self, path: Path) -> list[Path]:
        """Return what a power cut would lose of ``path``: its content, and names leading to it."""
        path = path.resolve()
        parents = [parent for parent in path.parents if parent.is_relative_to(self.root)]
        lost = [one for one in [*reversed(parents), path] if not self._has_name(one)]
        return lost + [one for one in self._unsynced(path) if one not in lost]

    def early(self, path: Path) -> list[Path]:
        """Return what was moved to ``path`` before its content was durable."""
        return self._early.get(path.resolve(), [])

    def overtaken(self) -> list[Path]:
        """Return paths that were renamed and replaced before the renaming was durable."""
        return [path for path in self._overtaken if path.exists()]

    def _unsynced(self, path: Path) -> Iterator[Path]:
        for one in walk(path):
            if one.name not in VOLATILE and (
                not self._has_content(one) or (one != path and not self._has_name(one))
            ):
                yield one

    def _has_content(self, path: Path) -> bool:
        if path.is_dir():
            return True  # its names are checked separately
        return self._durable.get(path.lstat().st_ino, b"") == content(path)

    def _has_name(self, path: Path) -> bool:
        if path == self.root:
            return True
        names = self._durable.get(path.parent.lstat().st_ino)
        return isinstance(names, dict) and names.get(path.name) == path.lstat().st_ino

    def _sync(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        for path in walk(self.root):
            if path.lstat().st_ino == inode:
                self._durable[inode] = content(path)
                break

    def _move(self, source: Any, target: Any, **_: Any) -> None:
        source, target = Path(source).resolve(), Path(target).resolve()
        if not source.is_relative_to(self.root):
            return
        self._early[target] = list(self._unsynced(source))
        self._take_name(target)
        self._moved.append((source, target))

    def _take_name(self, path: Any, *_: Any, **__: Any) -> None:
        for source, target in self._moved:
            if source == Path(path).resolve() and target.exists() and not self._has_name(target):
                self._overtaken.append(target)


def walk(path: Path) -> list[Path]:
    return [path, *path.rglob("*")]


def content(path: Path) -> Content:
    if path.is_dir():
        return {entry.name: entry.lstat().st_ino for entry in path.iterdir()}
    return path.read_bytes()


def watched(call: Callable[..., Any], watch: Callable[..., None]) -> Callable[..., Any]:
    def both(*args: Any, **options: Any) -> Any:
        watch(*args, **options)
        return call(*args, **options)

    return both
