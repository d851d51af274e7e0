"""Derived runs: atomic writes, their config and summary, and refused directories."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tessy.core.errors import InputError, RunError, StorageError
from tessy.data.derived_run import DerivedRun, rows_with_progress, source_rows
from tessy.reports.viewer.page import write_report
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories, read_config
from tests.support.rows import DATA, fill, keys, row, start
from tests.support.run_data import read_run


def derive(out: Path, *sources: Path, fresh: bool = False) -> DerivedRun:
    return DerivedRun(out, by="mix", sources=sources, options={"seed": 3}, fresh=fresh)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def contents(directory: Path) -> dict[Path, bytes]:
    """Return the content of all files except the lock, which names its last owner."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "run.lock")
    return {path: path.read_bytes() for path in files}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    fill(tmp_path / "source", row("a"), row("b", thinking="好的。\n$x^2$"), row("c"))
    return tmp_path / "source"


def test_a_derived_run_can_be_read_as_a_run(tmp_path: Path, source: Path) -> None:
    with derive(tmp_path / "out", source) as run:
        for line, item in source_rows(source):
            if item.id != "c":
                run.add(item, line)
        run.notes["mix"] = {"first": 2}
        assert len(run) == 2
    data = read_run(tmp_path / "out")
    assert keys(data.trajectories) == [("a", 0), ("b", 0)]
    assert data.trajectories == read_run(source).trajectories[:2]
    assert data.failures == ()
    assert data.config["config"] == {"seed": 3}
    assert data.config["data_config"] == {
        **DATA,
        "derived": {
            "by": "mix",
            "sources": [{"path": str(source), "data_digest": read_config(source)["data_digest"]}],
        },
    }
    summary = json.loads(RunPaths(tmp_path / "out").summary.read_bytes())
    assert summary["samples"]["finished"] == 2
    assert summary["mix"] == {"first": 2}
    assert write_report(tmp_path / "out").exists()
    assert names(tmp_path) == ["out", "source"]


def test_data_config_contains_the_shared_entries_and_the_sources(
    tmp_path: Path, source: Path
) -> None:
    with start(tmp_path / "other", data_config={**DATA, "seed": 2, "more": 1}):
        pass
    with derive(tmp_path / "both", source, tmp_path / "other"):
        pass
    data = read_config(tmp_path / "both")["data_config"]
    first = data.pop("derived")
    assert data == {name: value for name, value in DATA.items() if name != "seed"}
    with derive(tmp_path / "again", tmp_path / "both"):
        pass
    again = read_config(tmp_path / "again")["data_config"]["derived"]
    assert again["sources"][0]["derived"] == first  # sources are nested


@pytest.mark.parametrize("rows", [["a"], []])
def test_no_command_resumes_a_derived_run(tmp_path: Path, source: Path, rows: list[str]) -> None:
    with derive(tmp_path / "out", source) as run:
        for name in rows:
            run.add(row(name))
    with pytest.raises(RunError) as caught:
        start(tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'out'} is a mix of other runs, and no samples can be added to it; "
        "choose another --out"
    )


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5))
def test_rows_are_copied_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]
) -> None:
    home = tmp_path_factory.mktemp("run")
    rows = [row(str(n), thinking=text, answer=answer) for n, (text, answer) in enumerate(texts)]
    fill(home / "source", *rows)
    with derive(home / "out", home / "source") as run:
        for line, item in source_rows(home / "source"):
            run.add(item, line)
    before, after = (RunPaths(home / name).rows for name in ("source", "out"))
    assert before.read_bytes() == after.read_bytes()
    assert list(iter_trajectories(home / "out")) == rows


def test_the_last_row_of_a_key_is_used(tmp_path: Path, source: Path) -> None:
    parts = source / "parts"
    parts.mkdir()
    later = json.loads(RunPaths(source).rows.read_bytes().splitlines()[0])
    later["answer"] = "5"
    (parts / "m1.jsonl").write_text(json.dumps(later))  # without a final newline
    found = list(source_rows(source))
    assert [item.row for item in found] == list(iter_trajectories(source))
    assert found[-1].row.answer == "5"
    assert all(item.line.endswith(b"}\n") for item in found)


def test_an_invalid_line_is_named(source: Path) -> None:
    with RunPaths(source).rows.open("a") as file:
        file.write('{"id": "d", "sample": 0, "spans": 7}\n')
    with pytest.raises(InputError, match=r"trajectories\.jsonl:4: strategy: Field required"):
        list(source_rows(source))


def test_a_second_row_of_a_key_is_refused(tmp_path: Path, source: Path) -> None:
    with derive(tmp_path / "out", source) as run:
        run.add(row("a"))
        with pytest.raises(ValueError, match="already has a row with the key"):
            run.add(row("a"))


def test_an_added_row_can_be_read_immediately(tmp_path: Path, source: Path) -> None:
    with derive(tmp_path / "out", source) as run:
        rows = [row("a"), row("b", thinking="好的。")]
        offsets = [run.add(item) for item in rows]
        assert [run.read(offset) for offset in offsets] == rows
        assert run.read(run.add(row("c"))) == row("c")


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_removes_the_new_run(
    tmp_path: Path, source: Path, raised: type[BaseException]
) -> None:
    fill(tmp_path / "out", row("old"))
    before = contents(tmp_path)

    def stop() -> None:
        with derive(tmp_path / "out", source, fresh=True) as run:
            run.add(row("a"))
            run.write("more.jsonl", b"{}\n")
            assert len(names(tmp_path)) == 3
            raise raised

    with pytest.raises(raised):
        stop()
    assert names(tmp_path) == ["out", "source"]
    assert contents(tmp_path) == before


def test_a_full_disk_is_reported_and_removes_the_new_run(tmp_path: Path, source: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")

    def overflow() -> None:
        with derive(tmp_path / "out", source) as run:
            (run.directory / "more.jsonl").symlink_to("/dev/full")
            run.write("more.jsonl", b"x" * 2**20)

    with pytest.raises(StorageError, match="No space left"):
        overflow()
    assert names(tmp_path) == ["source"]


def test_fresh_moves_the_old_run(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    fill(out, row("old"))
    with pytest.raises(RunError, match=r"already contains a run.*--fresh"):
        derive(out, source)
    with derive(out, source, fresh=True) as run:
        run.add(row("a"))
        assert keys(iter_trajectories(out)) == [("old", 0)]
        with pytest.raises(RunError, match="in use"):
            start(out)
    assert keys(iter_trajectories(out)) == [("a", 0)]
    assert keys(iter_trajectories(tmp_path / "out.old-1")) == [("old", 0)]
    with start(tmp_path / "out.old-1"):
        pass  # the lock is released


def test_an_empty_directory_or_a_link_to_one_is_used(tmp_path: Path, source: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    with derive(tmp_path / "out", source) as run:
        run.add(row("a"))
    assert (tmp_path / "out").is_symlink()
    assert keys(iter_trajectories(tmp_path / "out")) == [("a", 0)]


def test_unusable_directories_are_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("x")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "config.json").write_text('{"schema": 1, "rows": "annotations"}')
    for out, sources, message in [
        ("file", [source], "is a file"),
        ("foreign", [source], "'notes.txt' but no config.json"),
        ("notes", [source], "holds annotations"),
        ("source", [source], "contains the source"),
        (".", [source], "contains the source"),
        ("new", [source, tmp_path / "foreign"], "no config.json"),
        ("file/new", [source], "cannot be created"),
    ]:
        before = names(tmp_path)
        with pytest.raises(RunError, match=message):
            derive(tmp_path / out, *sources, fresh=True)
        assert names(tmp_path) == before


def test_a_directory_created_in_the_meantime_is_kept(tmp_path: Path, source: Path) -> None:
    run = derive(tmp_path / "out", source)
    run.add(row("a"))
    fill(tmp_path / "out", row("other"))
    with pytest.raises(StorageError, match="sources are unchanged"), run:
        pass
    assert names(tmp_path) == ["out", "source"]
    assert keys(iter_trajectories(tmp_path / "out")) == [("other", 0)]


def test_a_derived_run_has_the_permissions_of_other_runs(tmp_path: Path, source: Path) -> None:
    with derive(tmp_path / "out", source):
        pass
    assert os.stat(tmp_path / "out").st_mode == os.stat(source).st_mode


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_only_on_a_terminal(tmp_path: Path, terminal: bool) -> None:
    fill(tmp_path / "run", row("a"), row("b"))
    console = Console(file=io.StringIO(), width=60, force_terminal=terminal)
    with rows_with_progress(tmp_path / "run", "Exporting", console) as items:
        assert [item.row.id for item in items] == ["a", "b"]
    assert isinstance(console.file, io.StringIO)
    assert ("Exporting" in console.file.getvalue()) == terminal
