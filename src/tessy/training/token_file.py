"""The exported file of token ids that a model is fine-tuned on; does not import torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessy.core.errors import InputError, cause_of
from tessy.data.export.tokens import IGNORED
from tessy.storage import jsonl

_MAKE = "`tessy export RUN --to tokens` writes such files"
_COLUMNS = ("input_ids", "labels", "loss_weights")
_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Contents of a file of token ids, counted for the rows of at most ``max_tokens``."""

    path: Path
    metadata: Mapping[str, Any]  # written by the export
    digest: str  # SHA-256 of ids, labels and weights of all rows
    rows: int  # kept
    left_out: int  # longer than `max_tokens`
    tokens: int  # of the kept rows
    learned: int  # of them with a loss
    longest: int  # tokens of the longest kept row
    uniform: bool  # whether all tokens with a loss have the same weight

    @property
    def columns(self) -> list[str]:
        """The columns that training reads."""
        return list(_COLUMNS[:2] if self.uniform else _COLUMNS)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what the export wrote about the file; raises InputError for any other file."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types

    try:
        schema = pq.read_schema(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {cause_of(error)}; check the path") from error
    except ValueError as error:  # ArrowInvalid, whose text is about the format
        raise InputError(
            f"{path} is not a Parquet file of token ids; pass a run directory, or such a file: "
            f"{_MAKE}"
        ) from error
    text = (schema.metadata or {}).get(b"tessy")
    if text is None:
        text = (pq.read_metadata(path).metadata or {}).get(b"tessy")
    missing = [name for name in _COLUMNS if name not in schema.names]
    if text is None or missing:
        lacks = f"column {missing[0]!r}" if missing else "description by tessy"
        raise InputError(f"{path} has no {lacks}, so it holds no token ids of a run; {_MAKE}")
    metadata = jsonl.loads(text)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("format_digest"), str):
        raise InputError(
            f"{path} does not name the tokenizer of its token ids; export it again: {_MAKE}"
        )
    return metadata


def read_tokens(
    path: Path, max_tokens: int | None = None, *, source: Path | None = None
) -> TokenFile:
    """Count the rows of the file, with few of them in memory at a time.

    Errors name ``source``, if the file was exported for this training.

    Raises:
        InputError: It is no exported file of token ids, it has no rows within ``max_tokens``, or
            no token of them has a loss.
    """
    import numpy as np
    import pyarrow.compute as pc  # type: ignore[import-untyped]  # ships no types
    import pyarrow.parquet as pq

    metadata = read_metadata(path)
    digests = [hashlib.sha256() for _ in (*_COLUMNS, "lengths")]
    rows = left_out = tokens = learned = longest = 0
    weights: set[float] = set()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(_COLUMNS)):
            lengths = pc.list_value_length(batch.column("input_ids")).to_numpy()
            columns = [batch.column(name).flatten().to_numpy() for name in _COLUMNS]
            for digest, column in zip(digests, (*columns, lengths), strict=True):
                digest.update(np.ascontiguousarray(column).tobytes())
            kept = lengths <= max_tokens if max_tokens else np.ones(len(lengths), bool)
            inside = np.repeat(kept, lengths)
            has_loss = inside & (columns[1] != IGNORED)
            rows, left_out = rows + int(kept.sum()), left_out + int((~kept).sum())
            tokens, learned = tokens + int(inside.sum()), learned + int(has_loss.sum())
            longest = max(longest, int(lengths[kept].max(initial=0)))
            weights.update(np.unique(columns[2][has_loss]).tolist())
    _check(source or path, rows, left_out, learned, max_tokens)
    total = hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()
    uniform = len(weights) == 1
    return TokenFile(
        path, metadata, total, rows, left_out, tokens, learned, longest, uniform=uniform
    )


def _check(path: Path, rows: int, left_out: int, learned: int, max_tokens: int | None) -> None:
    if not rows:
        why = f"all {left_out:,} rows have more than {max_tokens:,} tokens" if left_out else ""
        raise InputError(
            f"{path} has no rows to learn from{f': {why}' if why else ''}; "
            f"{'give a larger --max-tokens' if left_out else 'export a run with samples'}"
        )
    if not learned:
        raise InputError(
            f"{path}: no token has a loss; export the run with another --loss, or give a larger "
            "--max-tokens"
        )
