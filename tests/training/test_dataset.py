"""Sequences for the trainer: whole rows, none cut, and a whole number of batches."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest

from tessy.core.errors import InputError
from tessy.training.dataset import load_sequences
from tessy.training.token_file import read_tokens
from tests.support.sft_runs import token_file

pytestmark = pytest.mark.xdist_group("trl")  # which takes long to import

WEIGHTED = ("--loss", "student=1,teacher=0.5")


def documents(sequences: list[dict[str, Any]], column: str) -> list[list[Any]]:
    """Return the rows of packed sequences."""
    found = []
    for sequence in sequences:
        values = list(sequence[column])
        for length in sequence["seq_lengths"]:
            found.append(values[:length])
            del values[:length]
        assert values == []
    return sorted(found)


def test_a_packed_sequence_consists_of_whole_rows(run: Path, tmp_path: Path):
    data = token_file(run, *WEIGHTED)
    rows = pq.read_table(data.path).to_pylist()
    packed = load_sequences(data, packing=True, batch=1, cache=tmp_path)
    sequences = packed.dataset.to_list()
    assert len(sequences) == packed.count < len(rows)
    for column in data.columns:
        assert documents(sequences, column) == sorted(row[column] for row in rows)
    lengths = [len(row["input_ids"]) for row in rows]
    assert max(len(sequence["input_ids"]) for sequence in sequences) == max(lengths)
    assert data.columns == ["input_ids", "labels", "loss_weights"]
    unpacked = load_sequences(data, packing=False, batch=1, cache=tmp_path).dataset
    assert [row["input_ids"] for row in unpacked.to_list()] == [row["input_ids"] for row in rows]


@pytest.mark.parametrize("packing", [True, False])
def test_longer_rows_are_left_out_and_counted(run: Path, tmp_path: Path, packing: bool):
    every = token_file(run)
    rows = pq.read_table(every.path).to_pylist()
    lengths = sorted(len(row["input_ids"]) for row in rows)
    limit = lengths[-3]
    data = read_tokens(every.path, limit)
    kept = [row for row in rows if len(row["input_ids"]) <= limit]
    assert (data.rows, data.left_out, data.longest) == (len(kept), 2, limit)
    assert data.tokens == sum(len(row["input_ids"]) for row in kept)
    assert data.learned == sum(label != -100 for row in kept for label in row["labels"])
    dataset = load_sequences(data, packing=packing, batch=1, cache=tmp_path).dataset
    assert sum(map(len, dataset["input_ids"])) == data.tokens
    assert max(map(len, dataset["input_ids"])) == limit
    # The digest is that of the whole file, which the number of rows depends on.
    assert data.digest == every.digest


def test_blank_sequences_fill_the_last_batch(run: Path, tmp_path: Path):
    data = token_file(run)
    sequences = load_sequences(data, packing=False, batch=5, cache=tmp_path)
    assert (sequences.count, sequences.blank) == (13, 2)
    blank = sequences.dataset.to_list()[13:]
    assert [set(row["labels"]) for row in blank] == [{-100}, {-100}]
    assert data.columns == ["input_ids", "labels"]  # all weights are equal


def test_files_without_anything_to_learn_are_refused(run: Path, tmp_path: Path):
    data = token_file(run)
    with pytest.raises(InputError, match="all 13 rows have more than 4 tokens; give a larger"):
        read_tokens(data.path, 4)
    table = pq.read_table(data.path)
    pq.write_table(table.drop_columns("labels"), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="has no column 'labels'"):
        read_tokens(tmp_path / "x.parquet")
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="has no description by tessy"):
        read_tokens(tmp_path / "x.parquet")
    shutil.copy(run / "config.json", tmp_path / "x.parquet")
    with pytest.raises(InputError, match="is not a Parquet file"):
        read_tokens(tmp_path / "x.parquet")
