"""Parquet files of rows, with one row group in memory at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tessy.core.errors import InputError
from tessy.core.records import Trajectory, unpack_ids
from tessy.storage import jsonl

# A row group ends at either limit; readers load a row group at once.
_GROUP_ROWS = 1000
_GROUP_BYTES = 16 * 2**20
_SHARD_BYTES = 500 * 10**6
_SURROGATE = re.compile("[\ud800-\udfff]")

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
            ("unseen", _BOTH),
            ("seconds", pa.list_(pa.struct([("part", pa.string()), ("seconds", pa.float64())]))),
        ]
    ),
}
_TEXTS = ("id", "strategy", "thinking", "answer", "answer_by", "ended_by", "reference_answer")


# `student_ids` are unpacked, `cost.seconds` is a list of parts, and fields without a fixed
# structure (`problem`: other fields of the input row; `unscored`) are JSON text.
TRAJECTORY_SCHEMA = pa.schema(
    [(name, _TYPES.get(name, pa.string())) for name in Trajectory.model_fields]
)
TOKEN_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("sample", pa.int32()),
        ("input_ids", _IDS),
        ("labels", _IDS),
        ("loss_weights", pa.list_(pa.float32())),
    ]
)
# Axolotl accepts exactly these columns.
AXOLOTL_SCHEMA = pa.schema(
    [("input_ids", _IDS), ("attention_mask", pa.list_(pa.int8())), ("labels", _IDS)]
)


def trajectory_cells(row: Trajectory) -> dict[str, Any]:
    """Return the values of a row, by column of :data:`TRAJECTORY_SCHEMA`."""
    cells = row.model_dump()
    if row.student_ids is not None:
        cells["student_ids"] = {name: unpack_ids(packed) for name, packed in row.student_ids}
    parts = row.cost.seconds.items()
    cells["cost"]["seconds"] = [{"part": part, "seconds": value} for part, value in parts]
    for name in cells.keys() - _TYPES.keys() - set(_TEXTS):
        if cells[name] is not None:
            cells[name] = jsonl.dumps(cells[name]).decode()
    return cells


class ParquetRows(AbstractContextManager["ParquetRows"]):
    """Writer of a Parquet file, which is complete when the block ends."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        self._schema = schema
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0

    def add(self, cells: Mapping[str, Any], size: int) -> None:
        """Add a row of about ``size`` bytes in memory; InputError if a text is invalid Unicode."""
        self._rows.append(cells)
        self._bytes += size
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def add_trajectory(self, row: Trajectory) -> None:
        """Add a row to a file with the :data:`TRAJECTORY_SCHEMA`; raises like :meth:`add`."""
        ids = row.tokens.student + row.tokens.teacher + row.tokens.answer
        texts = len(row.thinking) + sum(len(turn.content) for turn in row.messages)
        self.add(trajectory_cells(row), 4 * ids + texts)

    @property
    def size(self) -> int:
        """Bytes written so far, without the current row group."""
        return self._file.tell()

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Store ``metadata`` in the file, as JSON with the key ``tessy``."""
        self._writer.add_key_value_metadata({"tessy": jsonl.dumps(metadata).decode()})

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
        except UnicodeEncodeError:
            raise _invalid_unicode(self._rows) from None
        self._writer.write_table(table)
        self._rows, self._bytes = [], 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            try:
                if kind is None:
                    self._flush()
            finally:
                self._writer.close()


def write_shards(rows: Iterable[Trajectory], folder: Path, shard_bytes: int = _SHARD_BYTES) -> None:
    """Write ``train-00000-of-0000N.parquet`` … in ``folder``, with one row group in memory.

    A shard ends when it reaches ``shard_bytes``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    with ExitStack() as stack:
        shard: ParquetRows | None = None
        for row in rows:
            if shard is None or shard.size >= shard_bytes:
                stack.close()
                shards.append(folder / f"{len(shards)}.parquet")
                shard = stack.enter_context(ParquetRows(shards[-1], TRAJECTORY_SCHEMA))
            shard.add_trajectory(row)
    for number, path in enumerate(shards):
        path.rename(folder / f"train-{number:05}-of-{len(shards):05}.parquet")


def _invalid_unicode(rows: list[Mapping[str, Any]]) -> InputError:
    """Return the error for the first of ``rows`` with a lone surrogate."""
    for cells in rows:
        if _SURROGATE.search(json.dumps(cells, ensure_ascii=False)):
            break
    return InputError(
        f"sample {cells['id']!r}/{cells['sample']} contains a lone surrogate, which Parquet cannot "
        "store; remove the row from the run, or export with --to messages"
    )
