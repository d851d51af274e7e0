"""Files written by commands survive a power cut."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tessy.config.data import CompareConfig
from tessy.data.derived_run import DerivedRun, source_rows
from tessy.lab.write_problems import write_problems
from tessy.reports.compare.command import compare
from tessy.reports.viewer.page import write_report
from tessy.storage.atomic import archive
from tessy.storage.run_paths import RunPaths
from tests.support.annotations import questions
from tests.support.annotations import write as write_annotations
from tests.support.evaluate_command import evaluate
from tests.support.exported_runs import export, place, small_run
from tests.support.power_cuts import Disk
from tests.support.rows import failure, row, start


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


@pytest.fixture
def disk(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The simulated disk of a run."""
    return Disk(tmp_path, monkeypatch)


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_content_and_every_directory_entry_must_be_synced(tmp_path: Path, disk: Disk) -> None:
    folder, file = tmp_path / "folder", tmp_path / "folder" / "file"
    folder.mkdir()
    file.write_bytes(b"content")
    assert disk.lost(file) == [folder, file]
    sync(file)
    assert disk.lost(file) == [folder, file]
    sync(folder)
    assert disk.lost(file) == [folder]
    sync(tmp_path)
    assert disk.lost(file) == disk.lost(folder) == []
    file.write_bytes(b"changed")
    assert disk.lost(file) == disk.lost(folder) == [file]
    file.replace(folder / "other")
    assert disk.early(folder / "other") == [file]
    (folder / "other").rename(file)
    sync(file)
    assert disk.lost(file) == []
    folder.rename(tmp_path / "aside")
    folder.mkdir()
    assert disk.overtaken() == [tmp_path / "aside"]


def resumed(run: Path) -> Path:
    start(run, config={"concurrency": os.urandom(4).hex()}).close()
    return RunPaths(run).config


def summary(run: Path) -> Path:
    with start(run) as opened:
        opened.write_summary({"seconds": os.urandom(4).hex()})
    return RunPaths(run).summary


def page(run: Path) -> Path:
    out = run.parent / "new" / "pages" / "compare.html"
    compare(CompareConfig(runs=(run,), out=out), Console(file=io.StringIO()))
    return out


def evaluation(run: Path) -> Path:
    annotations = run.parent / "annotations"
    if not annotations.exists():
        write_annotations(annotations, questions(10))
    evaluate(annotations, run.parent / "new" / "evaluation", "tests.support.annotations:perfect")
    return run.parent / "new" / "evaluation" / "evaluation.json"


def inputs(run: Path) -> Path:
    write_problems(run.parent / "in.jsonl", 5, 0)
    return run.parent / "in.jsonl"


def exported(to: str) -> Callable[[Path], Path]:
    def write(run: Path) -> Path:
        export(run, to)
        return place(run, to)

    return write


WRITES: dict[str, Callable[[Path], Path]] = {
    "config": resumed,
    "summary": summary,
    "report": write_report,
    "compare": page,
    "evaluation": evaluation,
    "problems": inputs,
    **{to: exported(to) for to in ("messages", "parquet", "hf")},
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_file_is_durable_when_it_is_written_and_when_it_is_replaced(
    run: Path, disk: Disk, write: Callable[[Path], Path]
) -> None:
    for _ in range(2):
        path = write(run)
        assert disk.early(path) == []
        assert disk.lost(path) == []


async def test_a_new_run_is_durable_from_its_first_row_on(tmp_path: Path, disk: Disk) -> None:
    directory = tmp_path / "runs" / "of-today" / "one"
    with start(directory) as opened:
        assert disk.lost(directory) == []
        await opened.append(row())
        await opened.append_failure(failure("b"))
        assert disk.lost(directory) == []


def test_a_moved_incomplete_line_is_durable(run: Path, disk: Disk) -> None:
    paths = RunPaths(run)
    with paths.rows.open("ab") as rows, paths.failures.open("ab") as failures:
        rows.write(b'{"id": "torn')
        failures.write(failure("z").model_dump_json().encode())  # complete except for its newline
    with start(run):
        assert (run / "trajectories.jsonl.torn").exists()
        assert disk.lost(run) == []


def test_an_archived_run_is_durable_before_its_name_is_reused(
    run: Path, tmp_path: Path, disk: Disk
) -> None:
    start(run, fresh=True).close()
    assert disk.overtaken() == []
    assert disk.lost(tmp_path / "run.old-1") == disk.lost(run) == []
    archive(run)
    assert disk.lost(tmp_path / "run.old-2") == []


def derive(out: Path, source: Path) -> None:
    with DerivedRun(out, by="mix", sources=[source], options={}, fresh=True) as derived:
        for line, item in source_rows(source):
            derived.add(item, line)
        derived.write("more.jsonl", b"{}\n")


def test_a_derived_run_is_durable_when_it_is_in_place(
    run: Path, tmp_path: Path, disk: Disk
) -> None:
    out = tmp_path / "new" / "out"
    for _ in range(2):
        derive(out, run)
        assert disk.early(out) == disk.lost(out) == disk.overtaken() == []
    assert disk.lost(tmp_path / "new" / "out.old-1") == []
