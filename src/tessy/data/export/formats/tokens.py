"""``tokens``: Parquet of token ids, with labels and loss weights by author."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tessy.core.errors import InputError
from tessy.core.records import AUTHORS, Author, Trajectory
from tessy.data.export.format import ADVICE, ExportFormat, ExportJob, ExportResult, trl_hint
from tessy.data.export.provenance import public, role_of
from tessy.storage.atomic import new_file


def _write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
    from tessy.data.export.parquet import TOKEN_SCHEMA

    with new_file(job.out, ADVICE) as path:
        return write_tokens(job, rows, path, TOKEN_SCHEMA)


def write_tokens(
    job: ExportJob,
    rows: Iterable[Trajectory],
    path: Path,
    schema: Any,  # noqa: ANN401  # pyarrow has no types
) -> ExportResult:
    """Write the columns in ``schema`` to ``path``; raises like :func:`tokenize` and the rest."""
    from tessy.data.export.parquet import ParquetRows
    from tessy.data.export.tokens import labels, load_format, parse_loss, tokenize, writers

    options = job.options
    weights = parse_loss(options.loss)
    form, digest = load_format(job.document, options.tokenizer)
    result = ExportResult(learned=0)
    seen: set[Author] = set()
    strategies: Counter[str] = Counter()
    authors_of_tokens: Counter[Author] = Counter()
    with ParquetRows(path, schema) as table:
        for row in rows:
            try:
                tokens = tokenize(row, form)
            except InputError as error:
                raise InputError(f"sample {row.id!r}/{row.sample}: {error}") from error
            loss_weights = tokens.weights(weights)
            learned = labels(tokens.ids, loss_weights)
            result.rows += 1
            result.tokens += len(learned)
            result.learned = (result.learned or 0) + sum(map(bool, loss_weights))
            result.encoded += tokens.encoded
            strategies[row.strategy] += 1
            authors_of_tokens.update(author for author in tokens.authors if author is not None)
            authors = writers(row, form)
            seen |= authors
            result.bare += not any(weights[author] for author in authors)
            cells = _cells(row, tokens.ids, learned, loss_weights)
            table.add(cells, 12 * len(learned))  # three columns of four bytes per token
        if result.bare == result.rows:
            raise InputError(
                f"--loss {options.loss}: all text in {options.run} is by the {seen.pop()}, so "
                "only markup would have labels; pass --loss all, or export another run"
            )
        table.describe(
            _provenance(job, strategies, authors_of_tokens)
            | {
                "format_digest": digest,
                "tokenizer_digest": form.renderer.codec.digest,
                "end_of_turn_id": form.end_id,
                "loss": options.loss,
                "weights": weights,
                "straddling_token": "belongs to the author of its first character",
                "rows": result.rows,
                "tokens": result.tokens,
                "learned_tokens": result.learned,
                "rows_tokenized_again": result.encoded,
            }
        )
    return result


def _cells(
    row: Trajectory, ids: Sequence[int], learned: Sequence[int], loss_weights: Sequence[float]
) -> dict[str, Any]:
    return {
        "id": row.id,
        "sample": row.sample,
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": learned,
        "loss_weights": loss_weights,
    }


def _provenance(
    job: ExportJob, strategies: Mapping[str, int], tokens: Mapping[Author, int]
) -> dict[str, Any]:
    """Return where the rows come from; ``tokens`` are those of responses by author."""
    return {
        "run": job.options.run.resolve().name,
        "run_digest": job.document.get("data_digest"),
        **_model(job),
        "strategies": dict(sorted(strategies.items())),
        "tokens_by_author": {author: tokens[author] for author in AUTHORS},
    }


def _model(job: ExportJob) -> dict[str, str | None]:
    """Return the model whose format the rows have: its hub id, or its folder seen from the file.

    A folder that does not exist here is omitted, because a reader of the file cannot resolve it.
    """
    data = job.document["data_config"]
    name = data.get(f"{role_of(data).prefix}model")
    if not isinstance(name, str):
        return {"model": None}
    folder = Path(name).expanduser()
    if folder.is_dir():
        relative = os.path.relpath(folder.resolve(), job.out.resolve().parent)
        return {"model": None, "model_folder": Path(relative).as_posix()}
    return {"model": name if public(name) == name else None}


_REMARK = (
    "labels are -100 for tokens without loss. loss_weights are for trainers that support them; TRL "
    "treats every weight above 0 as 1."
)

FORMAT = ExportFormat(
    name="tokens",
    suffix=".parquet",
    write=_write,
    hint=lambda job, result: trl_hint(f'"parquet", data_files={job.quoted_out}', _REMARK),
    options=frozenset({"loss", "tokenizer"}),
)
