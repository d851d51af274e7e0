"""The journal of samples in flight: what a crash must not cost, in one SQLite file.

A sample appends pieces of what it has made and, now and then, sets its state. Both are committed
in the order they were given, so a state never refers to a piece that is not there; pieces younger
than the last state may be. At most half a second passes between a call and its commit.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tessy.core.errors import RunError, StorageError
from tessy.core.records import Key
from tessy.storage.group_writer import Closeable, GroupWriter

_SCHEMA = """
CREATE TABLE IF NOT EXISTS flight (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL, sample INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, state BLOB, UNIQUE (id, sample));
CREATE TABLE IF NOT EXISTS piece (
    place INTEGER PRIMARY KEY, flight INTEGER NOT NULL, content BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS piece_flight ON piece (flight);
"""
_ENTER = "INSERT INTO flight (id, sample) VALUES (?, ?) ON CONFLICT DO NOTHING"
_NUMBER = "SELECT number FROM flight WHERE id = ? AND sample = ?"
_DROP_PIECES = "DELETE FROM piece WHERE flight = :number"
# What a call does to the file; its statements are committed together.
_APPEND = ("INSERT INTO piece (flight, content) VALUES (:number, :value)",)
_STATE = ("UPDATE flight SET state = :value WHERE number = :number",)
_ATTEMPTS = ("UPDATE flight SET attempts = :value WHERE number = :number",)
_CLEAR = (_DROP_PIECES, "UPDATE flight SET state = NULL WHERE number = :number")
_TRUNCATE = (
    f"{_DROP_PIECES} AND place NOT IN "
    "(SELECT place FROM piece WHERE flight = :number ORDER BY place LIMIT :value)",
)
_FORGET = (_DROP_PIECES, "DELETE FROM flight WHERE number = :number")


class _Operation(NamedTuple):
    statements: tuple[str, ...]
    key: Key
    value: Any


@dataclass(frozen=True, slots=True)
class InFlight:
    """What is known of a sample that was in flight.

    Attributes:
        pieces: Everything appended, in order.
        state: The last state set; None if none was.
    """

    pieces: list[bytes] = field(default_factory=list)
    state: bytes | None = None


class Journal(Closeable):
    """Pieces, states and attempt counters of samples in flight.

    No method but ``close`` waits for the disk. Every one raises :class:`StorageError` once the
    disk has failed. Forget a key only after its row is durable.
    """

    def __init__(self, path: Path, *, delay: float = 0.5) -> None:
        """Open the journal, made if it is missing.

        Args:
            path: The SQLite file; the run's lock keeps other processes away from it.
            delay: Longest wait in seconds between a call and its commit.

        Raises:
            RunError: The file is no journal.
        """
        self.path = path
        self._attempts: dict[Key, int] = {}
        self._numbers: dict[Key, int] = {}  # of flights, known to the thread that commits
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
                self._db.executescript(_SCHEMA)
                for name, sample, attempts in self._db.execute(
                    "SELECT id, sample, attempts FROM flight WHERE attempts > 0"
                ):
                    self._attempts[_text(name), sample] = attempts
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise RunError(
                f"{path} cannot be used as the journal of this run: {error}; move it away to "
                "continue without it: finished rows are kept, samples in flight start over"
            ) from error
        self._writer = GroupWriter(self._commit, name="journal", delay=delay)

    def load(self) -> dict[Key, InFlight]:
        """Return every sample in flight that has a piece or a state, as committed.

        Meant for the start of a run; what is put while it runs may be missing.
        """
        flights: dict[int, tuple[Key, InFlight]] = {}
        try:
            with closing(sqlite3.connect(self.path)) as db:
                db.execute("BEGIN")  # both queries see the same commit
                for number, name, sample, state in db.execute(
                    "SELECT number, id, sample, state FROM flight"
                ):
                    flights[number] = (_text(name), sample), InFlight(state=state)
                for number, content in db.execute(
                    "SELECT flight, content FROM piece ORDER BY place"
                ):
                    flights[number][1].pieces.append(content)
        except sqlite3.Error as error:
            raise StorageError(
                f"{self.path} cannot be read: {error}; move it away to continue without it: "
                "finished rows are kept, samples in flight start over"
            ) from error
        return {
            key: flight
            for key, flight in flights.values()
            if flight.pieces or flight.state is not None
        }

    def append(self, key: Key, piece: bytes) -> None:
        """Add ``piece`` to what ``key`` has made."""
        self._put(key, _APPEND, piece)

    def set_state(self, key: Key, state: bytes | Callable[[], bytes]) -> None:
        """Replace the state of ``key``.

        Args:
            key: The sample.
            state: The state, or what makes it. That is called when it is committed, in another
                thread, and not at all if a later state is committed with it, as most are.
        """
        self._put(key, _STATE, state)

    def bump_attempt(self, key: Key) -> int:
        """Count one more attempt at ``key`` and return how many there are now."""
        attempts = self.attempts(key) + 1
        self._put(key, _ATTEMPTS, attempts)
        self._attempts[key] = attempts
        return attempts

    def attempts(self, key: Key) -> int:
        """Attempts counted for ``key`` since it was last forgotten, earlier processes included."""
        return self._attempts.get(key, 0)

    def clear(self, key: Key) -> None:
        """Delete pieces and state of ``key`` for a new attempt; the attempts stay counted."""
        self._put(key, _CLEAR)

    def truncate(self, key: Key, count: int) -> None:
        """Keep only the first ``count`` pieces of ``key``."""
        self._put(key, _TRUNCATE, count)

    def forget(self, key: Key) -> None:
        """Delete everything about ``key``; its row is durable."""
        self._attempts.pop(key, None)
        self._put(key, _FORGET)

    async def flush(self) -> None:
        """Return once everything given so far survives a power cut."""
        await self._writer.flush()

    def close(self) -> None:
        """Commit what waits and close the file; blocks until then. May be called again."""
        try:
            self._writer.close()
        finally:
            self._db.close()

    def _put(self, key: Key, statements: tuple[str, ...], value: object = None) -> None:
        self._writer.put(_Operation(statements, key, value))

    def _commit(self, operations: list[_Operation]) -> None:
        states = {op.key: op for op in operations if op.statements is _STATE}  # the last ones
        try:
            with self._transaction():
                for operation in operations:
                    statements, key, value = operation
                    if statements is _STATE:
                        if states[key] is not operation:
                            continue
                        value = value() if callable(value) else value
                    values = {"number": self._number(key), "value": value}
                    for statement in statements:
                        self._db.execute(statement, values)
                    if statements is _FORGET:
                        del self._numbers[key]
        except sqlite3.Error as error:
            raise StorageError(
                f"{self.path} cannot be written: {error}; free some space and give the same "
                "command again: finished rows are kept, and samples in flight as of the last commit"
            ) from error

    def _number(self, key: Key) -> int:
        """Return the number of a flight, which is entered if it is new."""
        number = self._numbers.get(key)
        if number is None:
            # The id as bytes: SQLite refuses text with half a surrogate pair.
            named = key[0].encode("utf-8", "surrogatepass"), key[1]
            self._db.execute(_ENTER, named)
            (number,) = self._db.execute(_NUMBER, named).fetchone()
            self._numbers[key] = number
        return number

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
