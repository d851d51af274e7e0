"""Where an export goes: built beside its place and moved there when it is whole."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tessy.durable import make_directory, sync_path, sync_tree
from tessy.errors import InputError, StorageError
from tessy.runs import RunPaths

# What a folder of ours holds. Anything else in it is somebody's, and is not replaced.
_FOLDER = frozenset({"README.md", "data"})
FILE_SUFFIXES = (".jsonl", ".parquet")


def check_place(out: Path, run: Path, suffix: str) -> None:
    """Refuse a place that would cost the user something, or whose name promises another format.

    Args:
        out: Where the export shall be.
        run: The run directory.
        suffix: How the name of the format's files ends; empty: the export is a folder.

    Raises:
        InputError: It lies among the run's own files, holds something else, or is of another kind.
    """
    target, home = out.resolve(), run.resolve()
    if home.is_relative_to(target) or target.parent in (home, RunPaths(home).parts):
        raise InputError(
            f"--out {out} is a place of the run's own files; choose one outside {run}, or in "
            f"{run / 'export'}"
        )
    if suffix:
        if target.exists() and not target.is_file():
            raise InputError(f"--out {out} is a folder; name a file")
        if out.suffix.lower() != suffix:
            name = f"{out.stem}{suffix}"
            raise InputError(f"--out {out}: this format is a {suffix} file; name it {name}")
        return
    if out.suffix.lower() in FILE_SUFFIXES:
        raise InputError(f"--out {out}: this format is a folder, not a file; name it {out.stem}")
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    foreign = sorted({path.name for path in target.iterdir()} - _FOLDER)
    if foreign:
        raise InputError(
            f"--out {out} holds {foreign[0]!r}, which no export wrote; choose a new or empty folder"
        )


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Write ``path`` anew: gives a file beside it that takes its place if the block ends well.

    Raises:
        StorageError: It could not be written; what was there is untouched.
    """
    partial = _beside(path, "partial")
    try:
        make_directory(path.parent)
        yield partial
        sync_path(partial)
        partial.replace(path)
        sync_path(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Write the folder ``path`` anew, as :func:`new_file` does a file.

    An older one is moved aside and deleted when the new one is in place.

    Raises:
        StorageError: It could not be written; what was there is untouched.
    """
    partial, old = _beside(path, "partial"), _beside(path, "old")
    try:
        make_directory(partial.parent)
        partial.mkdir()
        yield partial
        sync_tree(partial)
        _swap(path, partial, old)
        sync_path(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _swap(path: Path, new: Path, old: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}-{uuid.uuid4().hex[:8]}")


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written: {error}; free some space or choose another --out, and give the "
        "same command again: the run is untouched"
    )
