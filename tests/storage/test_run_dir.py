import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tessy.core.errors import RunError, StorageError
from tessy.core.records import Trajectory
from tessy.storage.run_dir import FailureSummary
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import (
    iter_failures,
    iter_superseded,
    iter_trajectories,
    read_config,
)
from tests.support.paths import ROOT
from tests.support.rows import CONFIG, DATA, failure, fill, keys, row, start
from tests.support.run_data import read_run


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "one"


@pytest.fixture
def paths(directory: Path) -> RunPaths:
    return RunPaths(directory)


def test_a_new_run_records_its_options(directory, paths):
    with start(directory, software={"vllm": "0.32"}) as run:
        assert (run.done, run.failed) == (set(), {})
        document = json.loads(paths.config.read_text())
    assert document == run.document == read_config(directory)
    assert document["schema"] == 1
    assert document["config"] == CONFIG
    assert document["data_config"] == DATA
    assert document["software"] == {"vllm": "0.32"}
    assert document["tessy"]
    assert document["created"].endswith("+00:00")
    assert len(document["data_digest"]) == 64


def test_resume_records_changed_options_only(directory, paths):
    start(directory).close()
    before = paths.config.read_bytes()
    start(directory).close()
    assert paths.config.read_bytes() == before
    start(directory, config={"concurrency": 99}).close()
    start(directory, config={"concurrency": 99}).close()
    document = read_config(directory)
    assert document["config"] == CONFIG
    assert [entry["config"] for entry in document["resumed"]] == [{"concurrency": 99}]


def test_a_differing_data_config_is_refused_naming_each_key(directory, paths):
    start(directory).close()
    paths.journal.touch()  # samples were in flight
    before = paths.config.read_bytes()
    with pytest.raises(RunError) as caught:
        start(directory, data_config={"seed": 2, "student.model": "s", "answer": "student"})
    message = str(caught.value)
    assert "seed: 1, now 2" in message
    assert 'cut: "discard", now (not set)' in message
    assert 'answer: (not set), now "student"' in message
    assert "student.model" not in message
    assert "--fresh" in message
    assert paths.config.read_bytes() == before
    start(directory).close()  # the lock was released


def test_values_compare_as_json(directory):
    start(directory, data_config={"cut": ("a", 1), "path": Path("x")}).close()
    start(directory, data_config={"path": "x", "cut": ["a", 1]}).close()


def test_fresh_moves_the_old_run(directory, paths):
    fill(directory, row())
    for number in (1, 2):
        with start(directory, data_config={"seed": number}, fresh=True) as run:
            assert run.done == set()
    assert keys(iter_trajectories(f"{directory}.old-1")) == [("a", 0)]
    assert read_config(f"{directory}.old-2")["data_config"] == {"seed": 1}
    assert read_config(directory)["data_config"] == {"seed": 2}


def test_a_run_without_rows_can_be_restarted_with_other_options(directory, paths):
    start(directory).close()
    start(directory, data_config={"seed": 2}).close()
    document = read_config(directory)
    assert document["data_config"] == {"seed": 2}
    assert document["resumed"] == []


def test_a_file_is_not_a_run(tmp_path):
    file = tmp_path / "trajectories.jsonl"
    file.write_text("{}\n", "utf-8")
    message = r"not a run: it has no config\.json; check .* `tessy sample`"
    with pytest.raises(RunError, match=message):
        read_config(file)


def test_fresh_without_a_run_starts_one(directory):
    start(directory, fresh=True).close()
    assert [path.name for path in directory.parent.iterdir()] == ["one"]


def test_fresh_through_a_link_moves_its_target(tmp_path, directory):
    fill(tmp_path / "far" / "one", row())
    directory.parent.mkdir()
    directory.symlink_to(tmp_path / "far" / "one")
    start(directory, fresh=True).close()
    assert directory.is_symlink()
    assert keys(iter_trajectories(tmp_path / "far" / "one.old-1")) == [("a", 0)]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_directory_with_other_files_is_refused(directory, fresh):
    directory.mkdir(parents=True)
    (directory / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"thesis\.tex"):
        start(directory, fresh=fresh)
    assert [path.name for path in directory.iterdir()] == ["thesis.tex"]


def test_files_of_a_killed_start_are_accepted(directory, paths):
    directory.mkdir(parents=True)
    paths.lock.write_text("host gone, pid 1\n")
    (directory / "config.json.tmp").write_text("{")
    start(directory).close()


def test_a_file_or_an_unwritable_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file"):
        start(tmp_path / "file")
    with pytest.raises(RunError, match="cannot be used"):
        start(tmp_path / "file" / "below")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": 999}', b"{}", b"\xff"])
def test_an_unreadable_config_is_refused(directory, paths, content):
    start(directory).close()
    paths.config.write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json"):
        start(directory)
    with pytest.raises(RunError, match=r"config\.json"):
        read_run(directory)


def test_reading_a_directory_without_a_run_raises(tmp_path):
    with pytest.raises(RunError, match=r"no config\.json"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="there is no folder"):
        list(iter_trajectories(tmp_path / "missing"))


OWNER = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.support.rows import start
run = start(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_ends(directory):
    child = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), str(ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    try:
        for fresh in (False, True):
            with pytest.raises(RunError) as caught:
                start(directory, fresh=fresh)
            assert f"pid {child.pid}" in str(caught.value)
            assert f"host {os.uname().nodename}" in str(caught.value)
        assert read_run(directory).trajectories == ()  # reading needs no lock
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdin.close()
        child.stdout.close()
    with start(directory), pytest.raises(RunError, match=f"pid {os.getpid()}"):
        start(directory)


def test_rows_are_read_back_unchanged(directory, paths):
    first = row("日本 \u2028", thinking="«é» 🙂", problem={"deep": [{"x": None}], "n": 2**70})
    fill(directory, first, row("a", 1), failure("b"))
    data = read_run(directory)
    assert data.trajectories == (first, row("a", 1))
    assert data.failures == (failure("b"),)
    assert data.config == read_config(directory)
    lines = paths.rows.read_bytes().split(b"\n")
    assert len(lines) == 3
    assert lines[0].startswith('{"id": "日本 \u2028", "sample": 0, '.encode())


def test_any_text_in_a_row_keeps_the_file_valid(directory, paths):
    odd = {"half": "x\\\ud800y", "nan": float("nan"), "inf": float("-inf")}
    fill(directory, row(problem=odd), row("b"))
    for line in paths.rows.read_bytes().decode("utf-8").split("\n")[:-1]:
        json.loads(line, parse_constant=pytest.fail)
    first, second = read_run(directory).trajectories
    assert first.problem == {"half": "x\\\ud800y", "nan": None, "inf": "-Infinity"}
    assert second.key == ("b", 0)


async def test_done_and_failed_follow_the_rows(directory):
    with start(directory) as run:
        await run.append_failure(failure("a"))
        await run.append_failure(failure("a", reason="repetition", attempts=2))
        await run.append_failure(failure("b"))
        assert run.failed[("a", 0)] == FailureSummary("repetition", "no room", 2)
        await run.append(row("a"))
        await run.append_failure(failure("a"))
        await run.append(row("c"))
        known = (run.done, run.failed)
        assert run.done == {("a", 0), ("c", 0)}
        assert set(run.failed) == {("b", 0)}
        with pytest.raises(ValueError, match="already"):
            await run.append(row("a"))
    with start(directory) as run:
        assert (run.done, run.failed) == known
    assert keys(read_run(directory).failures) == [("b", 0)]


async def test_concurrent_rows_share_an_fsync(directory, monkeypatch):
    synced: list[int] = []
    real = os.fsync

    def counted(fd: int) -> None:
        synced.append(fd)
        real(fd)

    with start(directory) as run:
        monkeypatch.setattr(os, "fsync", counted)
        await asyncio.gather(*(run.append(row("a", n)) for n in range(200)))
        assert 1 <= len(synced) < 20
    assert sorted(keys(iter_trajectories(directory))) == [("a", n) for n in range(200)]


async def test_append_waits_for_durability_without_blocking_the_loop(directory, monkeypatch):
    loop = asyncio.get_running_loop()
    turned = asyncio.Event()
    order: list[str] = []

    def slow(fd: int) -> None:
        # Only a loop that is not blocked can set the event this fsync waits for.
        asyncio.run_coroutine_threadsafe(turned.wait(), loop).result()
        order.append("synced")

    with start(directory) as run:
        monkeypatch.setattr(os, "fsync", slow)
        waiting = asyncio.create_task(run.append(row()))
        waiting.add_done_callback(lambda _: order.append("returned"))
        await asyncio.sleep(0)
        assert run.done == set()
        turned.set()
        await waiting
        await asyncio.sleep(0)
        assert order == ["synced", "returned"]
        monkeypatch.undo()


async def test_a_cancelled_append_writes_a_whole_row(directory):
    with start(directory) as run:
        waiting = asyncio.create_task(run.append(row()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert keys(iter_trajectories(directory)) == [("a", 0)]


def test_the_summary_is_replaced_atomically(directory, paths):
    with start(directory) as run:
        run.write_summary({"done": 1})
        run.write_summary({"done": 2, "share": float("nan")})
        assert json.loads(paths.summary.read_text()) == {"done": 2, "share": None}
        assert not list(directory.glob("*.tmp"))
        paths.summary.unlink()
        paths.summary.mkdir()
        (paths.summary / "x").touch()
        with pytest.raises(StorageError, match=r"summary\.json"):
            run.write_summary({"done": 3})
        assert not list(directory.glob("*.tmp"))


def save(path: Path, *rows) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(item.model_dump_json() + "\n" for item in rows), encoding="utf-8")


def test_files_in_parts_are_read_like_the_main_file(directory, paths):
    fill(directory, row("a"), row("b", answer="old"), failure("c"), failure("d"))
    save(paths.parts / "1.jsonl", row("b", answer="new"), row("e"))
    save(paths.parts / "2.jsonl", row("c"))
    save(paths.parts / "2.failures.jsonl", failure("d", reason="refused"), failure("e"))
    data = read_run(directory)
    assert keys(data.trajectories) == [("a", 0), ("b", 0), ("e", 0), ("c", 0)]
    assert data.trajectories[1].answer == "new"
    assert [(item.id, item.reason) for item in data.failures] == [("d", "refused")]
    assert list(iter_trajectories(directory)) == list(data.trajectories)
    with start(directory) as run:
        assert run.done == {(name, 0) for name in "abce"}
        assert {key: item.reason for key, item in run.failed.items()} == {("d", 0): "refused"}


async def test_a_run_can_be_read_while_it_is_written(directory, paths):
    with start(directory) as run:
        await run.append(row("a"))
        rows = iter_trajectories(directory)
        assert next(rows).key == ("a", 0)
        await run.append(row("b"))
        assert list(rows) == []  # written after the read started
        with paths.rows.open("ab") as file:
            file.write(b'{"id": "c", "sample": 0, "strat')
        assert keys(read_run(directory).trajectories) == [("a", 0), ("b", 0)]


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_sample_that_succeeds_during_a_read_is_not_a_failure(
    directory, paths, monkeypatch, moment
):
    fill(directory, row("a"), failure("b"))
    opened: list[Path] = []
    real = Path.open

    def watched(path: Path, *args, **options):
        if path in (paths.rows, paths.failures):
            opened.append(path)
            if len(opened) == moment:
                with real(path.with_name("trajectories.jsonl"), "ab") as file:
                    file.write(row("b").model_dump_json().encode() + b"\n")
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", watched)
    data = read_run(directory)
    assert len(opened) >= moment
    assert keys(data.trajectories) == [("a", 0), ("b", 0)]
    assert data.failures == ()


def test_failures_are_read_before_rows(directory, paths, monkeypatch):
    fill(directory, row("a"), failure("b"))
    opened: set[Path] = set()
    real = Path.open

    def watched(path: Path, *args, **options):
        if path in (paths.rows, paths.failures) and path not in opened:
            opened.add(path)
            if len(opened) == 2:  # between the two reads
                with real(paths.rows, "ab") as file:
                    file.write(row("b").model_dump_json().encode() + b"\n")
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", watched)
    assert list(iter_failures(directory)) == []
    assert len(opened) == 2


def test_iterating_holds_one_row_in_memory(directory, monkeypatch):
    fill(directory, *(row("a", n) for n in range(5)))
    validated: list[int] = []
    real = Trajectory.model_validate

    def counted(value):
        validated.append(1)
        return real(value)

    monkeypatch.setattr(Trajectory, "model_validate", counted)
    for number, _ in enumerate(iter_trajectories(directory), 1):
        assert len(validated) == number
    assert len(validated) == 5


def test_a_failure_that_is_tried_again_counts_only_as_cost(directory):
    first, again, other = failure("a"), failure("a", attempts=2), failure("b", reason="refused")
    fill(directory, first, other, again, failure("c"))
    fill(directory, row("a"))
    assert keys(iter_trajectories(directory)) == [("a", 0)]
    assert keys(iter_failures(directory)) == [("b", 0), ("c", 0)]
    assert keys(read_run(directory).failures) == [("b", 0), ("c", 0)]
    assert [(f.id, f.attempts) for f in iter_superseded(directory)] == [("a", 1), ("a", 2)]
