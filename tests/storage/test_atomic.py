import contextlib
import errno
import os
from itertools import count
from pathlib import Path

import pytest

from tessy.core.errors import StorageError
from tessy.storage.atomic import (
    archive_path,
    new_file,
    new_folder,
    publish_folder,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def filled(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "a").write_text(text)
    return folder


def test_a_file_is_replaced_and_no_temporary_file_stays(tmp_path: Path):
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    with new_file(path) as partial:
        partial.write_bytes(b"newer")
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"
    assert names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_is_reported_with_the_advice(tmp_path: Path):
    folder = filled(tmp_path / "folder", "old")
    with pytest.raises(StorageError, match=r"folder cannot be written: .*; free some space"):
        write_atomically(folder, b"new")
    with (
        pytest.raises(StorageError, match=r"; go elsewhere$"),
        new_file(folder, "go elsewhere") as p,
    ):
        p.write_bytes(b"new")
    below_a_file = folder / "a" / "b"
    with (
        pytest.raises(StorageError, match=r"; go elsewhere$"),
        new_file(below_a_file, "go elsewhere"),
    ):
        pass
    with (
        pytest.raises(StorageError, match=r"; go elsewhere$"),
        new_folder(below_a_file, "go elsewhere"),
    ):
        pass
    assert names(tmp_path) == ["folder"]
    assert (folder / "a").read_text() == "old"


def test_a_folder_is_replaced_whole(tmp_path: Path):
    for content in ("old", "new"):
        with new_folder(tmp_path / "deep" / "folder") as partial:
            (partial / content).write_text(content)
    assert names(tmp_path / "deep") == ["folder"]
    assert names(tmp_path / "deep" / "folder") == ["new"]


def test_publishing_a_folder_renames_the_old_one(tmp_path: Path):
    path = filled(tmp_path / "run", "old")
    filled(tmp_path / "run.old-1", "older")
    publish_folder(filled(tmp_path / "partial", "new"), path, old=archive_path(path))
    assert (path / "a").read_text() == "new"
    assert (tmp_path / "run.old-2" / "a").read_text() == "old"
    assert names(tmp_path) == ["run", "run.old-1", "run.old-2"]


def test_a_folder_is_replaced_only_if_the_old_one_is_renamed(tmp_path: Path):
    path, new = filled(tmp_path / "path", "old"), filled(tmp_path / "new", "new")
    with pytest.raises(OSError, match="not empty"):
        publish_folder(new, path)
    assert (path / "a").read_text() == "old"


def test_the_old_folder_is_restored_if_the_new_one_cannot_be_renamed(tmp_path: Path):
    outer = filled(tmp_path / "outer", "outer")
    path = filled(outer / "path", "old")
    with pytest.raises(OSError, match="Invalid argument"):  # a folder cannot be moved into itself
        publish_folder(outer, path, old=outer / "moved")
    assert (path / "a").read_text() == "old"
    assert names(outer) == ["a", "path"]


@pytest.mark.parametrize("failing", range(1, 12))
def test_a_sync_that_fails_loses_neither_the_old_folder_nor_the_new_one(
    tmp_path, monkeypatch, failing
):
    path = filled(tmp_path / "out", "old")
    calls = count(1)
    real = os.fsync

    def fsync(fd: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, "the disk is failing")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with contextlib.suppress(StorageError), new_folder(path) as folder:
        filled(folder / "more", "new")
    assert {file.read_text() for file in path.rglob("*") if file.is_file()} in ({"old"}, {"new"})


def test_an_old_folder_that_cannot_be_moved_back_is_kept(tmp_path, monkeypatch):
    path = filled(tmp_path / "out", "old")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target == path:
            raise OSError(errno.EIO, "the disk is failing")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError), new_folder(path) as folder:
        filled(folder / "more", "new")
    kept = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert kept == ["old"]
