"""Files and folders that appear whole: written beside their place, synced, then renamed.

Readers see the old content or the new one, never a part, also after a power cut.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tessy.core.errors import StorageError

ADVICE = "free some space or fix the permissions"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by one that holds ``content``.

    The temporary file is ``<path>.tmp``; one that a killed process left is overwritten.

    Raises:
        StorageError: It could not be written; the old file is still there.
    """
    with _replacing(path, path.with_name(path.name + ".tmp"), ADVICE) as temporary:
        temporary.write_bytes(content)


@contextmanager
def new_file(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """Yield a path beside ``path`` to write; it replaces ``path`` when the block ends normally.

    Missing parent folders are made.

    Args:
        path: The file.
        advice: What to do if it cannot be written; ends the error message.

    Raises:
        StorageError: It could not be written; what was there is untouched.
    """
    with _replacing(path, beside(path, "partial"), advice) as partial:
        make_directory(path.parent)
        yield partial


@contextmanager
def new_folder(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` to fill, as :func:`new_file` does for a file.

    A folder that was at ``path`` is deleted once the new one has its place.
    """
    partial, old = beside(path, "partial"), beside(path, "old")
    try:
        make_directory(partial.parent)
        partial.mkdir()
        yield partial
        publish_folder(partial, path, old=old if path.exists() else None)
    except OSError as error:
        raise _unwritable(path, error, advice) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def publish_folder(folder: Path, path: Path, *, old: Path | None = None) -> None:
    """Make everything in ``folder`` durable, then rename it to ``path``.

    Args:
        folder: A folder on the same file system as ``path``.
        path: Must be missing or an empty folder, unless ``old`` is given.
        old: What is at ``path`` is renamed to this first, and back if the last rename fails.

    Raises:
        OSError: It could not be done; ``path`` is as it was.
    """
    for file in folder.rglob("*"):
        sync_path(file)
    sync_path(folder)
    if old is not None:
        path.rename(old)
        sync_path(path.parent)  # before the name is used again
    try:
        folder.rename(path)
    except BaseException:
        if old is not None:
            old.rename(path)
        raise
    sync_path(path.parent)


def set_aside(directory: Path) -> None:
    """Rename ``directory`` to its :func:`aside_name`."""
    directory.rename(aside_name(directory))
    sync_path(directory.parent)


def aside_name(directory: Path) -> Path:
    """Return ``<directory>.old-<n>``, with the first free n."""
    number = 1
    while (old := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    return old


def beside(path: Path, what: str) -> Path:
    """Return a new name beside ``path``: ``<path>.<what>-<random>``."""
    return path.with_name(f"{path.name}.{what}-{uuid.uuid4().hex[:8]}")


def make_directory(path: Path) -> None:
    """Make the directory ``path`` and its missing parents; their names are durable on return.

    A directory that exists is left as it is.
    """
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        sync_path(directory.parent)


def sync_path(path: Path) -> None:
    """Make durable what ``path`` names: a file's content, or a directory's names."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _replacing(path: Path, temporary: Path, advice: str) -> Iterator[Path]:
    try:
        yield temporary
        sync_path(temporary)
        temporary.replace(path)
        sync_path(path.parent)
    except OSError as error:
        raise _unwritable(path, error, advice) from error
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError, advice: str) -> StorageError:
    return StorageError(f"{path} cannot be written: {error}; {advice}")
