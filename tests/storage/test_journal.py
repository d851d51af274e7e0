import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tessy.core.errors import RunError, StorageError
from tessy.storage.journal import InFlight, Journal

A, B = ("a", 0), ("b", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def reload(path: Path):
    with Journal(path) as journal:
        return journal.load()


def test_a_new_journal_is_empty(path):
    with Journal(path) as journal:
        assert journal.load() == {}
        assert journal.attempts(A) == 0


def test_pieces_states_and_attempts_survive_a_restart(path):
    with Journal(path) as journal:
        journal.append(A, b"one")
        journal.append(B, b"")
        journal.set_state(A, b"old")
        journal.append(A, b"two\x00\xff")
        journal.set_state(A, b"new")
        assert journal.bump_attempt(A) == 1
        assert journal.bump_attempt(A) == 2
    with Journal(path) as journal:
        assert journal.load() == {
            A: InFlight([b"one", b"two\x00\xff"], b"new"),
            B: InFlight([b""], None),
        }
        assert journal.attempts(A) == 2
        assert journal.attempts(B) == 0
        assert journal.bump_attempt(A) == 3


def test_a_key_with_attempts_only_is_not_in_flight(path):
    with Journal(path) as journal:
        journal.bump_attempt(A)
    with Journal(path) as journal:
        assert journal.load() == {}
        assert journal.attempts(A) == 1


def test_forget_deletes_all_of_one_key(path):
    with Journal(path) as journal:
        for key in (A, B):
            journal.append(key, b"x")
            journal.set_state(key, b"s")
            journal.bump_attempt(key)
        journal.forget(A)
        assert journal.attempts(A) == 0
        journal.forget(("never seen", 1))
    with Journal(path) as journal:
        assert journal.load() == {B: InFlight([b"x"], b"s")}
        assert (journal.attempts(A), journal.attempts(B)) == (0, 1)
        journal.append(A, b"again")
    assert reload(path)[A] == InFlight([b"again"], None)


def test_truncate_keeps_the_first_pieces_of_one_key(path):
    with Journal(path) as journal:
        for n in range(5):
            journal.append(A, b"%d" % n)
            journal.append(B, b"%d" % n)
        journal.set_state(A, b"state")
        journal.truncate(A, 2)
        journal.append(A, b"next")
    assert reload(path) == {
        A: InFlight([b"0", b"1", b"next"], b"state"),
        B: InFlight([b"0", b"1", b"2", b"3", b"4"], None),
    }


def test_clear_keeps_the_attempts(path):
    with Journal(path) as journal:
        journal.bump_attempt(A)
        journal.append(A, b"x")
        journal.set_state(A, b"s")
        journal.clear(A)
        journal.append(A, b"y")
    with Journal(path) as journal:
        assert journal.load() == {A: InFlight([b"y"], None)}
        assert journal.attempts(A) == 1


async def test_flush_makes_earlier_calls_durable(path):
    with Journal(path, delay=3600) as journal:
        journal.append(A, b"x")
        assert journal.load() == {}
        await journal.flush()
        assert journal.load() == {A: InFlight([b"x"], None)}
        await asyncio.gather(*(journal.flush() for _ in range(50)))


async def test_calls_are_committed_without_flush(path):
    loop = asyncio.get_running_loop()
    with Journal(path, delay=0.01) as journal:
        committed = asyncio.Event()
        journal._db.set_trace_callback(
            lambda said: said == "COMMIT" and loop.call_soon_threadsafe(committed.set)
        )
        journal.append(A, b"x")
        await committed.wait()


async def test_many_calls_share_a_commit(path):
    statements: list[str] = []
    with Journal(path, delay=3600) as journal:
        journal._db.set_trace_callback(statements.append)
        for number in range(500):
            journal.append((f"k{number}", 0), b"x")
        await asyncio.gather(*(journal.flush() for _ in range(20)))
        assert statements.count("COMMIT") == 1


def test_a_commit_survives_a_power_cut(path):
    with Journal(path) as journal:
        values = {
            name: journal._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2}  # 2: FULL


def test_close_is_idempotent_and_later_calls_raise(path):
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(RuntimeError, match="closed"):
        journal.append(A, b"x")


def test_ids_may_contain_any_character(path):
    key = ("日本 \ud800'\"\x00", 2)
    with Journal(path) as journal:
        journal.append(key, b"x")
        journal.bump_attempt(key)
    with Journal(path) as journal:
        assert journal.load() == {key: InFlight([b"x"], None)}
        assert journal.attempts(key) == 1


def test_a_file_that_is_not_a_journal_is_refused(path):
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(RunError, match="move it away"):
        Journal(path)


def test_a_damaged_journal_is_refused_on_load(path):
    with Journal(path) as journal:
        for number in range(3000):
            journal.append((f"k{number}", 0), b"x" * 100)
    content = bytearray(path.read_bytes())
    content[4096 * 20 :] = os.urandom(len(content) - 4096 * 20)
    path.write_bytes(content)
    with pytest.raises((RunError, StorageError), match="move it away"):
        reload(path)


KEYS = st.sampled_from([A, B, ("c", 0)])
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), KEYS, st.binary(max_size=4)),
        st.tuples(st.just("set_state"), KEYS, st.binary(max_size=4)),
        st.tuples(st.sampled_from(["bump_attempt", "clear", "forget", "reopen"]), KEYS),
    ),
    max_size=40,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(CALLS)
def test_a_journal_behaves_like_a_dictionary(tmp_path_factory, calls):
    path = tmp_path_factory.mktemp("j") / "journal.sqlite"
    pieces: dict[tuple[str, int], list[bytes]] = {}
    states: dict[tuple[str, int], bytes] = {}
    attempts: dict[tuple[str, int], int] = {}
    journal = Journal(path, delay=0)
    try:
        for name, key, *rest in calls:
            if name == "reopen":
                journal.close()
                journal = Journal(path, delay=0)
                continue
            getattr(journal, name)(key, *rest)
            if name == "append":
                pieces.setdefault(key, []).append(rest[0])
            elif name == "set_state":
                states[key] = rest[0]
            elif name == "bump_attempt":
                attempts[key] = attempts.get(key, 0) + 1
            else:
                pieces.pop(key, None)
                states.pop(key, None)
                if name == "forget":
                    attempts.pop(key, None)
    finally:
        journal.close()
    with Journal(path) as journal:
        assert journal.load() == {
            key: InFlight(pieces.get(key, []), states.get(key)) for key in {*pieces, *states}
        }
        for key in (A, B, ("c", 0)):
            assert journal.attempts(key) == attempts.get(key, 0)


# A state counts the pieces before it; every tenth round a key is finished and restarted.
WRITER = """
import asyncio, sys
from pathlib import Path
from tessy.storage.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]), delay=0.02)
    done = {key: (len(flight.pieces), flight) for key, flight in journal.load().items()}
    count = {(f"k{n}", n): done.get((f"k{n}", n), (0, None))[0] for n in range(20)}
    step = 0
    while True:
        step += 1
        for key in count:
            journal.append(key, f"{key[0]}:{count[key]}".encode() + b"." * 300)
            count[key] += 1
            journal.set_state(key, str(count[key]).encode())
            if (step + key[1]) % 10 == 0:
                journal.forget(key)
                count[key] = 0
        journal.bump_attempt(("steps", 0))
        if step % 7 == 0:
            await journal.flush()
            print(journal.attempts(("steps", 0)), flush=True)
        await asyncio.sleep(0)

asyncio.run(main())
"""


def test_kill_at_any_moment_leaves_a_consistent_journal(path):
    for lines in (1, 2, 5, 11, 23):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(lines):
            promised = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.stdout.close()
        child.wait()
        with Journal(path) as journal:
            assert journal.attempts(("steps", 0)) >= promised
            flights = journal.load()
        assert flights
        for (name, _), flight in flights.items():
            pieces = [piece.split(b".")[0].decode() for piece in flight.pieces]
            assert pieces == [f"{name}:{number}" for number in range(len(pieces))]
            # A state never refers to missing pieces.
            assert int(flight.state or b"0") <= len(pieces)


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from tessy.core.errors import StorageError
from tessy.storage.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]), delay=0.01)
    journal.append(("kept", 0), b"x")
    await journal.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    journal.append(("lost", 0), b"x" * 1_000_000)
    for call in (journal.flush, journal.flush):
        try:
            await call()
        except StorageError as error:
            print("flush", error)
    for call in (lambda: journal.append(("lost", 1), b"x"), journal.close):
        try:
            call()
        except StorageError as error:
            print("call", error)

asyncio.run(main())
"""


def test_a_full_disk_raises_in_every_later_call(path):
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    lines = child.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["flush", "flush", "call", "call"]
    assert all(str(path) in line and "free some space" in line for line in lines)
    assert reload(path) == {("kept", 0): InFlight([b"x"], None)}


def use_broken(path: Path, error: Exception | None = None) -> None:
    with Journal(path, delay=0) as journal:
        journal._db.execute("DROP TABLE piece")
        journal.append(A, b"x")
        if error:
            raise error


def test_a_failed_journal_does_not_hide_the_error_of_its_block(path):
    with pytest.raises(ZeroDivisionError):
        use_broken(path, ZeroDivisionError())
    with pytest.raises(StorageError, match="piece"):
        use_broken(path)
