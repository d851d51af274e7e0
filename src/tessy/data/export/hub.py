"""Parquet shards for ``datasets.load_dataset`` and the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from tessy.core.records import Trajectory
from tessy.data.export.card import DataCardFacts
from tessy.data.export.parquet import (
    ParquetRows,
    trajectory_bytes,
    trajectory_cells,
    trajectory_schema,
)

SHARD_BYTES = 500 * 10**6


def write_shards(
    rows: Iterable[Trajectory], folder: Path, facts: DataCardFacts, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write ``train-00000-of-0000N.parquet`` … in ``folder``.

    Args:
        rows: Rows, read once in order; one row group is in memory.
        folder: Destination, created if missing.
        facts: Receives every row.
        shard_bytes: A shard ends when it reaches this size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    with ExitStack() as stack:
        shard: ParquetRows | None = None
        for row in rows:
            if shard is None or shard.size >= shard_bytes:
                stack.close()
                shards.append(folder / f"{len(shards)}.parquet")
                shard = stack.enter_context(ParquetRows(shards[-1], trajectory_schema()))
            shard.add(trajectory_cells(row), trajectory_bytes(row))
            facts.add(row)
    for number, path in enumerate(shards):
        path.rename(folder / f"train-{number:05}-of-{len(shards):05}.parquet")
