"""Rows as Parquet: written a row group at a time, so memory holds no more than that."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tessy.core.errors import InputError
from tessy.core.records import StudentIds, Trajectory, unpack_ids
from tessy.storage import jsonl

# A row group ends at the first of these; readers take a row group at once.
_GROUP_ROWS = 1000
_GROUP_BYTES = 16 * 2**20
_HALF_PAIR = re.compile("[\ud800-\udfff]")

_BOTH = pa.struct([("student", pa.int64()), ("teacher", pa.int64())])
_IDS = pa.list_(pa.int32())
_TYPES: Mapping[str, pa.DataType] = {
    "sample": pa.int32(),
    "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    "spans": pa.list_(
        pa.struct([("start", pa.int32()), ("end", pa.int32()), ("author", pa.string())])
    ),
    "tokens": pa.struct(
        [(name, pa.int64()) for name in ("student", "teacher", "answer")] + [("drafted", _BOTH)]
    ),
    "student_ids": pa.struct([("thinking", _IDS), ("answer", _IDS)]),
    "forced": _BOTH,
    "scores": pa.list_(pa.float64()),
    "glued": pa.int32(),
    "attempts": pa.int32(),
    "seconds": pa.float64(),
    "cost": pa.struct(
        [
            ("requests", _BOTH),
            ("seconds", pa.list_(pa.struct([("part", pa.string()), ("seconds", pa.float64())]))),
        ]
    ),
}
_TEXTS = ("id", "strategy", "thinking", "answer", "answer_by", "ended_by", "reference_answer")


def trajectory_schema() -> pa.Schema:
    """Return every field of a row, typed.

    ``student_ids`` are unpacked, ``cost.seconds`` is a list of parts, and what has no fixed shape
    (``problem``, the other fields of the problem's row; ``unscored``) is JSON text.
    """
    names = Trajectory.model_fields
    return pa.schema([(name, _TYPES.get(name, pa.string())) for name in names])


def trajectory_cells(row: Trajectory) -> dict[str, Any]:
    """Return a row for :func:`trajectory_schema`."""
    cells = row.model_dump()
    cells["student_ids"] = _unpacked(row.student_ids)
    parts = row.cost.seconds.items()
    cells["cost"]["seconds"] = [{"part": part, "seconds": value} for part, value in parts]
    for name in cells.keys() - _TYPES.keys() - set(_TEXTS):
        cells[name] = jsonl.dumps(cells[name]).decode()
    return cells


def trajectory_bytes(row: Trajectory) -> int:
    """About what a row takes in memory."""
    ids = row.tokens.student + row.tokens.teacher + row.tokens.answer
    return 4 * ids + len(row.thinking) + sum(len(turn.content) for turn in row.messages)


def token_schema() -> pa.Schema:
    """Return the columns of pretokenised rows."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("sample", pa.int32()),
            ("input_ids", _IDS),
            ("labels", _IDS),
            ("loss_weights", pa.list_(pa.float32())),
        ]
    )


def _unpacked(ids: StudentIds | None) -> dict[str, list[int]] | None:
    if ids is None:
        return None
    return {"thinking": unpack_ids(ids.thinking), "answer": unpack_ids(ids.answer)}


class ParquetRows(AbstractContextManager["ParquetRows"]):
    """A Parquet file in the making; whole once the block has ended."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Start the file ``path``."""
        self._file = path.open("wb")
        self._schema = schema
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0

    def add(self, cells: Mapping[str, Any], size: int) -> None:
        """Add a row.

        Args:
            cells: Its values by column.
            size: About how many bytes it takes in memory.

        Raises:
            InputError: It holds text that is no Unicode; names the row.
        """
        self._rows.append(cells)
        self._bytes += size
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    @property
    def size(self) -> int:
        """Bytes written so far; the open row group is not among them."""
        return self._file.tell()

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Keep ``metadata`` in the file, as JSON under the key ``tessy``."""
        self._writer.add_key_value_metadata({"tessy": jsonl.dumps(metadata).decode()})

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
        except UnicodeEncodeError:
            raise _no_unicode(self._rows) from None
        self._writer.write_table(table)
        self._rows, self._bytes = [], 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            try:
                if kind is None:
                    self._flush()
            finally:
                self._writer.close()


def _no_unicode(rows: list[Mapping[str, Any]]) -> InputError:
    """Name the first of ``rows`` with half a surrogate pair in its text."""
    for cells in rows:
        if _HALF_PAIR.search(json.dumps(cells, ensure_ascii=False)):
            break
    return InputError(
        f"sample {cells['id']!r}/{cells['sample']} holds half a surrogate pair, which Parquet "
        "cannot keep; take it out of the run, or export to messages"
    )
