"""Rows of token ids as sequences for the trainer: packed, none cut, a whole number of batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets  # type: ignore[import-untyped]  # ships no types
from datasets import Dataset, concatenate_datasets
from trl.data_utils import pack_dataset

from tessy.data.export.tokens import IGNORED
from tessy.training.token_file import TokenFile

_BLANK_TOKENS = 2  # the shortest sequence that a causal loss accepts


@dataclass(frozen=True, slots=True)
class Sequences:
    """Sequences to train on."""

    dataset: Dataset  # input_ids, labels, with weights loss_weights, if packed seq_lengths
    count: int  # without blank ones
    blank: int  # sequences without loss


def load_sequences(data: TokenFile, *, packing: bool, batch: int, cache: Path) -> Sequences:
    """Load the rows of at most ``data.longest`` tokens; intermediate files lie in ``cache``.

    Packing joins whole rows to sequences of at most the longest row's tokens; ``seq_lengths`` are
    the rows' lengths. Blank sequences are added up to a multiple of ``batch``: every step then has
    ``batch`` sequences with any number of processes, where the trainer would repeat some.
    """
    datasets.disable_progress_bars()
    dataset = Dataset.from_parquet(str(data.path), columns=data.columns, cache_dir=str(cache))
    assert isinstance(dataset, Dataset)
    if data.left_out:
        dataset = dataset.filter(lambda ids: len(ids) <= data.longest, input_columns="input_ids")
    if packing:
        dataset = pack_dataset(dataset, data.longest, "bfd")
    count = len(dataset)
    blank = -count % batch
    if blank:
        columns: dict[str, list[int] | list[float]] = {
            "input_ids": [0] * _BLANK_TOKENS,
            "labels": [IGNORED] * _BLANK_TOKENS,
            "loss_weights": [0.0] * _BLANK_TOKENS,
            "seq_lengths": [_BLANK_TOKENS],
        }
        rows = {name: [columns[name]] * blank for name in dataset.column_names}
        dataset = concatenate_datasets(
            [dataset, Dataset.from_dict(rows, features=dataset.features)]
        )
    return Sequences(dataset, count, blank)
