import asyncio
import fcntl
import json
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tessy.core.errors import InputError, RunError, StorageError
from tessy.storage.atomic import archive
from tessy.storage.group_writer import GroupWriter
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_trajectories
from tests.support.paths import ROOT
from tests.support.rows import failure, fill, keys, row, start
from tests.support.run_data import read_run

TIMEOUT = 30  # seconds; a test that hangs fails


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "one"


@pytest.fixture
def paths(directory: Path) -> RunPaths:
    return RunPaths(directory)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(st.data())
def test_a_file_truncated_anywhere_is_repaired(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("r") / "run"
    paths = RunPaths(directory)
    rows = [row(f"é{n}", thinking="x" * n * 30_000 or "y") for n in range(4)]
    fill(directory, *rows)
    whole = paths.rows.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == 10]
    near_an_end = st.sampled_from(ends).flatmap(
        lambda end: st.integers(max(0, end - 3), min(len(whole), end + 3))
    )
    cut = data.draw(st.one_of(near_an_end, st.integers(0, len(whole))))
    paths.rows.write_bytes(whole[:cut])
    complete = sum(end - 1 <= cut for end in ends)
    assert list(iter_trajectories(directory)) == rows[:complete]  # also before the repair
    with start(directory) as run:
        assert run.done == {item.key for item in rows[:complete]}
    kept = whole[: ends[complete - 1] if complete else 0]
    assert paths.rows.read_bytes() == kept
    torn = directory / "trajectories.jsonl.torn"
    assert (torn.read_bytes() if torn.exists() else b"") == (
        whole[len(kept) : cut] + b"\n" if cut > len(kept) else b""
    )
    fill(directory, *rows[complete:])
    assert paths.rows.read_bytes() == whole


def test_empty_blocks_after_a_power_cut_are_repaired(directory, paths):
    fill(directory, row(), failure("b"))
    with paths.rows.open("ab") as file:
        file.write(b"\0" * 5000 + b'": 7}\n' + b"\0" * 100)
    with paths.failures.open("ab") as file:
        file.write(b'{"id": "c", "samp')
    with start(directory) as run:
        assert (run.done, set(run.failed)) == ({("a", 0)}, {("b", 0)})
    assert (directory / "failures.jsonl.torn").read_bytes() == b'{"id": "c", "samp\n'
    assert keys(read_run(directory).trajectories) == [("a", 0)]


@pytest.mark.parametrize("line", [b"[1]", b"7", b'"text"', b"null", b"true", b"{} {}"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_last_line_that_is_not_an_object_is_moved(directory, paths, line, end):
    fill(directory, row("a"), failure("b"))
    before = paths.rows.read_bytes(), paths.failures.read_bytes()
    for path in (paths.rows, paths.failures):
        with path.open("ab") as file:
            file.write(line + end)
    data = read_run(directory)  # before the repair
    assert (keys(data.trajectories), keys(data.failures)) == ([("a", 0)], [("b", 0)])
    with start(directory) as run:
        assert (run.done, set(run.failed)) == ({("a", 0)}, {("b", 0)})
    assert (paths.rows.read_bytes(), paths.failures.read_bytes()) == before
    assert (directory / "trajectories.jsonl.torn").read_bytes() == line + b"\n"


def test_a_last_line_that_is_an_object_is_kept(directory, paths):
    fill(directory, row("a"))
    whole = paths.rows.read_bytes()
    paths.rows.write_bytes(whole.removesuffix(b"\n"))
    with start(directory) as run:
        assert run.done == {("a", 0)}
    assert paths.rows.read_bytes() == whole
    assert not (directory / "trajectories.jsonl.torn").exists()


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b'{"id": 7, "sample": 0}',
        b'{"id": "x", "sample": 0, "torn',
        b'{"id": "\xff", "sample": 0}',
    ],
)
def test_a_corrupt_line_in_the_middle_is_named(directory, paths, line):
    fill(directory, row("a"), row("b"))
    first, second, _ = paths.rows.read_bytes().split(b"\n")
    paths.rows.write_bytes(b"\n".join([first, line, second, b""]))
    for use in (start, read_run):
        with pytest.raises(InputError, match=r"trajectories\.jsonl:2: "):
            use(directory)


def test_readers_name_a_row_that_is_not_a_trajectory(directory, paths):
    fill(directory, row("a"))
    with paths.rows.open("ab") as file:
        file.write(b'{"id": "b", "sample": 0}\n')
    rows = iter_trajectories(directory)
    assert next(rows).key == ("a", 0)
    with pytest.raises(InputError, match=r"trajectories\.jsonl:2: "):
        next(rows)


WRITER = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[2])
from tests.support.rows import row, failure, start

async def main():
    with start(sys.argv[1]) as run:
        async def sample(number):
            if ("k", number) in run.done:
                return
            if number % 5 == 0:
                await run.append_failure(failure("k", number))
            await run.append(row("k", number, thinking=f"{number} " * 2000))
            print(number, flush=True)
        for begin in range(0, 100_000, 8):
            await asyncio.gather(*(sample(number) for number in range(begin, begin + 8)))

asyncio.run(main())
"""


def test_a_kill_at_any_moment_neither_loses_nor_repeats_nor_alters_rows(directory, paths):
    promised: set[int] = set()
    for lines in (1, 30, 77, 2, 120):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory), str(ROOT)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        for _ in range(lines + random.randrange(8)):
            promised.add(int(child.stdout.readline()))
        child.send_signal(signal.SIGKILL)
        promised.update(int(line) for line in child.stdout if line.endswith("\n"))
        child.stdout.close()
        child.wait()
        rows = list(iter_trajectories(directory))
        assert {item.sample for item in rows} >= promised
        for item in rows:
            assert item == row("k", item.sample, thinking=f"{item.sample} " * 2000)
    start(directory).close()
    lines = paths.rows.read_text("utf-8").splitlines()
    numbers = [json.loads(line)["sample"] for line in lines]
    assert len(numbers) == len(set(numbers)) >= len(promised)


FULL_DISK = """
import asyncio, resource, sys
sys.path.insert(0, sys.argv[2])
from tessy.core.errors import StorageError
from tests.support.rows import row, start

async def main():
    run = start(sys.argv[1])
    await run.append(row("a"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    for name in "bc":
        try:
            await run.append(row(name, thinking="x" * 9000))
        except StorageError as error:
            print("append", error)
    try:
        run.close()
    except StorageError as error:
        print("close", error)

asyncio.run(main())
"""


def test_a_full_disk_raises_and_leaves_whole_rows(directory, paths):
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(directory), str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = child.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["append", "append", "close"]
    assert all("trajectories.jsonl" in line and "free some space" in line for line in lines)
    assert paths.rows.read_bytes().endswith(b"}\n")
    assert keys(iter_trajectories(directory)) == [("a", 0)]
    fill(directory, row("b"))


@pytest.mark.parametrize("recreated", [False, True])
def test_the_lock_of_a_directory_that_was_moved_is_refused(
    directory, paths, monkeypatch, recreated
):
    start(directory).close()
    real = fcntl.flock

    def move_directory(fd: int, how: int) -> None:
        """Another process moves the directory after open() and before flock()."""
        monkeypatch.setattr(fcntl, "flock", real)
        archive(directory)
        if recreated:
            start(directory).close()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", move_directory)
    with pytest.raises(RunError, match=r"one was just moved by another process; try again"):
        start(directory)
    start(directory).close()
    start(f"{directory}.old-1").close()  # its lock is free too


async def test_flush_while_a_batch_fails_raises():
    started, proceed = threading.Event(), threading.Event()

    def fail(items: list[int]) -> None:
        started.set()
        proceed.wait()
        raise OSError("no space")

    writer = GroupWriter(fail, name="writer")
    writer.put(1)
    first = asyncio.create_task(writer.flush())
    await asyncio.to_thread(started.wait)
    others = [asyncio.create_task(writer.flush()) for _ in range(3)]
    await asyncio.sleep(0)  # they wait for the batch after the failing one
    others[0].cancel()
    await asyncio.wait(others[:1])
    proceed.set()
    async with asyncio.timeout(TIMEOUT):
        ended = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(error) for error in ended] == [
        StorageError,
        asyncio.CancelledError,
        StorageError,
        StorageError,
    ]
    for call in (lambda: writer.put(2), writer.close):
        with pytest.raises(StorageError, match="no space"):
            call()
    with pytest.raises(StorageError, match="no space"):
        await writer.flush()


async def test_a_cancelled_flush_does_not_block_others():
    started, proceed = threading.Event(), threading.Event()
    written: list[int] = []

    def write(items: list[int]) -> None:
        started.set()
        proceed.wait()
        written.extend(items)

    writer = GroupWriter(write, name="writer")
    writer.put(1)
    flushes = [asyncio.create_task(writer.flush()) for _ in range(2)]
    await asyncio.to_thread(started.wait)
    flushes[0].cancel()
    await asyncio.wait(flushes[:1])
    proceed.set()
    async with asyncio.timeout(TIMEOUT):
        await flushes[1]
        writer.put(2)
        await writer.flush()
    assert written == [1, 2]
    writer.close()
