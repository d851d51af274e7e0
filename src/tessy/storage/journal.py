"""Journal of samples in flight, in one SQLite file: a crash does not lose their progress."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
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
_INSERT = "INSERT INTO flight (id, sample) VALUES (?, ?) ON CONFLICT DO NOTHING"
_NUMBER = "SELECT number FROM flight WHERE id = ? AND sample = ?"
_DROP_PIECES = "DELETE FROM piece WHERE flight = :number"
# Statements of each call, committed together.
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
    """Progress of a sample that was in flight: all appended pieces, and the last state."""

    pieces: list[bytes] = field(default_factory=list)
    state: bytes | None = None


class Journal(Closeable):
    """Pieces, states and attempt counters of samples in flight.

    Calls are committed in order within ``delay`` seconds, so a state never refers to a missing
    piece, while pieces newer than the last state may exist. Only :meth:`flush` and :meth:`close`
    wait for the disk. A file that is not a journal raises :class:`RunError`; after a failed write,
    every method raises :class:`StorageError`.
    """

    def __init__(self, path: Path, *, delay: float = 0.5) -> None:
        self.path = path
        self._attempts: dict[Key, int] = {}
        self._numbers: dict[Key, int] = {}  # flight numbers, used by the writer thread only
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
        """Return all committed samples in flight that have a piece or a state."""
        flights: dict[int, tuple[Key, InFlight]] = {}
        try:
            with closing(sqlite3.connect(self.path)) as db:
                db.execute("BEGIN")  # both queries see the same commit
                rows = db.execute("SELECT number, id, sample, state FROM flight")
                for number, name, sample, state in rows:
                    flights[number] = (_text(name), sample), InFlight(state=state)
                pieces = db.execute("SELECT flight, content FROM piece ORDER BY place")
                for number, content in pieces:
                    flights[number][1].pieces.append(content)
        except sqlite3.Error as error:
            raise StorageError(
                f"{self.path} cannot be read: {error}; move it away to continue without it: "
                "finished rows are kept, samples in flight start over"
            ) from error
        in_flight = dict(flights.values())
        return {key: flight for key, flight in in_flight.items() if flight != InFlight()}

    def append(self, key: Key, piece: bytes) -> None:
        """Append ``piece`` to the pieces of ``key``."""
        self._put(key, _APPEND, piece)

    def set_state(self, key: Key, state: bytes | Callable[[], bytes]) -> None:
        """Replace the state of ``key``.

        If ``state`` is a function, it is called at commit in another thread, and skipped if a later
        state is part of the same commit.
        """
        self._put(key, _STATE, state)

    def bump_attempt(self, key: Key) -> int:
        """Increment the attempts of ``key`` and return the new count."""
        attempts = self.attempts(key) + 1
        self._put(key, _ATTEMPTS, attempts)
        self._attempts[key] = attempts
        return attempts

    def attempts(self, key: Key) -> int:
        """Return the attempts of ``key`` since :meth:`forget`, including earlier processes."""
        return self._attempts.get(key, 0)

    def clear(self, key: Key) -> None:
        """Delete pieces and state of ``key`` for a new attempt; keep the attempt count."""
        self._put(key, _CLEAR)

    def truncate(self, key: Key, count: int) -> None:
        """Keep only the first ``count`` pieces of ``key``."""
        self._put(key, _TRUNCATE, count)

    def forget(self, key: Key) -> None:
        """Delete all data of ``key``; its row must be durable."""
        self._attempts.pop(key, None)
        self._put(key, _FORGET)

    async def flush(self) -> None:
        """Wait until all calls so far are durable."""
        await self._writer.flush()

    def close(self) -> None:
        """Commit all pending calls and close the file; blocks. Idempotent."""
        try:
            self._writer.close()
        finally:
            self._db.close()

    def _put(self, key: Key, statements: tuple[str, ...], value: object = None) -> None:
        self._writer.put(_Operation(statements, key, value))

    def _commit(self, operations: list[_Operation]) -> None:
        states = {op.key: op for op in operations if op.statements is _STATE}  # last of each key
        try:
            with self._db:  # commits, or rolls back on an exception
                self._db.execute("BEGIN IMMEDIATE")
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
                f"{self.path} cannot be written: {error}; free some space and run the "
                "command again: finished rows are kept, and samples in flight as of the last commit"
            ) from error

    def _number(self, key: Key) -> int:
        number = self._numbers.get(key)
        if number is None:
            # Bytes, because SQLite rejects text with unpaired surrogates.
            row = key[0].encode("utf-8", "surrogatepass"), key[1]
            self._db.execute(_INSERT, row)
            (number,) = self._db.execute(_NUMBER, row).fetchone()
            self._numbers[key] = number
        return number


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
