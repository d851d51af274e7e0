"""Atomic replacement of files and folders: write to a temporary path, sync, rename.

Readers see the old or the new content, never a part of it, even after a power cut.
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
    """Replace the file ``path`` by one with ``content``; raises as :func:`new_file`.

    The temporary file is ``<path>.tmp``; one left by a killed process is overwritten.
    """
    with _replacing(path, path.with_name(path.name + ".tmp"), ADVICE) as temporary:
        temporary.write_bytes(content)


@contextmanager
def new_file(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """Yield a temporary path to write; it replaces ``path`` when the block ends without error.

    Missing parent folders are created. ``advice`` ends the error message.

    Raises:
        StorageError: The file could not be written; the old one is unchanged.
    """
    with _replacing(path, beside(path, "partial"), advice) as partial:
        make_directory(path.parent)
        yield partial


@contextmanager
def new_folder(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it replaces ``path`` as in :func:`new_file`.

    A former folder at ``path`` is deleted after the replacement.
    """
    partial, old = beside(path, "partial"), beside(path, "old")
    try:
        make_directory(partial.parent)
        partial.mkdir()
        yield partial
        publish_folder(partial, path, old=old if path.exists() else None)
        shutil.rmtree(old, ignore_errors=True)  # not earlier: it was the only complete copy
    except OSError as error:
        raise _unwritable(path, error, advice) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish_folder(folder: Path, path: Path, *, old: Path | None = None) -> None:
    """Make everything in ``folder`` durable, then rename it to ``path`` (same file system).

    ``path`` is missing or an empty folder, unless ``old`` is given: the former ``path`` is moved
    there first, and moved back if the last rename fails with OSError.
    """
    for file in folder.rglob("*"):
        sync_path(file)
    sync_path(folder)
    if old is not None:
        path.rename(old)
    try:
        if old is not None:
            sync_path(path.parent)  # the old folder is durable before its name is reused
        folder.rename(path)
    except BaseException:
        if old is not None:
            old.rename(path)
        raise
    sync_path(path.parent)


def archive(directory: Path) -> None:
    """Rename ``directory`` to its :func:`archive_path`."""
    directory.rename(archive_path(directory))
    sync_path(directory.parent)


def archive_path(directory: Path) -> Path:
    """Return ``<directory>.old-<n>``, with the first free n."""
    number = 1
    while (old := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    return old


def beside(path: Path, what: str) -> Path:
    """Return an unused sibling of ``path``: ``<path>.<what>-<random>``."""
    return path.with_name(f"{path.name}.{what}-{uuid.uuid4().hex[:8]}")


def make_directory(path: Path) -> None:
    """Create the directory ``path`` and its missing parents durably, if they do not exist."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        sync_path(directory.parent)


def apply_umask(folder: Path, model: str) -> None:
    """Give the files of ``folder`` the mode of its file ``model``, which the umask decided.

    safetensors creates files that only the owner can read.
    """
    for file in folder.iterdir():
        if file.is_file():
            file.chmod((folder / model).stat().st_mode)


def sync_path(path: Path) -> None:
    """Fsync ``path``: the content of a file or the entries of a directory."""
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
