"""``tokens``: Parquet of token ids with labels and loss weights by author."""

from __future__ import annotations

from collections.abc import Iterable

from tessy.core.errors import InputError
from tessy.core.records import Author, Trajectory
from tessy.data.export.destination import ADVICE
from tessy.data.export.format import ExportFormat, ExportJob, trl_hint
from tessy.data.export.report import ExportResult
from tessy.storage.atomic import new_file


def _write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
    from tessy.data.export.loss import parse_loss
    from tessy.data.export.parquet import ParquetRows, token_schema
    from tessy.data.export.student import load_format
    from tessy.data.export.tokens import labels, tokenize, writers

    options = job.options
    weights = parse_loss(options.loss)
    form, digest = load_format(job.document, options.tokenizer)
    written = ExportResult(learned=0)
    wrote: set[Author] = set()
    with new_file(job.out, ADVICE) as path, ParquetRows(path, token_schema()) as table:
        for row in rows:
            try:
                tokens = tokenize(row, form)
            except InputError as error:
                raise InputError(f"sample {row.id!r}/{row.sample}: {error}") from error
            counts = tokens.weights(weights)
            learned = labels(tokens.ids, counts)
            written.rows += 1
            written.tokens += len(learned)
            written.learned = (written.learned or 0) + sum(map(bool, counts))
            written.encoded += tokens.encoded
            by = writers(row, form)
            wrote |= by
            written.bare += not any(weights[author] for author in by)
            cells = {"id": row.id, "sample": row.sample, "input_ids": tokens.ids}
            size = 12 * len(learned)  # three numbers of four bytes a token
            table.add({**cells, "labels": learned, "loss_weights": counts}, size)
        if written.bare == written.rows:
            raise InputError(
                f"--loss {options.loss}: all of the text in {options.run} is by the "
                f"{wrote.pop()}, so only markup would be learned; give --loss all, or export "
                "another run"
            )
        table.describe(
            {
                "run": options.run.resolve().name,
                "format_digest": digest,
                "tokenizer_digest": form.renderer.codec.digest,
                "end_of_turn_id": form.end_id,
                "loss": options.loss,
                "weights": weights,
                "straddling_token": "belongs to the author of its first character",
                "rows": written.rows,
                "tokens": written.tokens,
                "learned_tokens": written.learned,
                "rows_tokenized_again": written.encoded,
            }
        )
    return written


_REMARK = (
    "labels say which tokens are learned; loss_weights how much, for trainers that read them: TRL "
    "treats every weight above 0 as 1."
)

FORMAT = ExportFormat(
    name="tokens",
    suffix=".parquet",
    write=_write,
    hint=lambda job, written: trl_hint(f'"parquet", data_files={job.quoted_out}', _REMARK),
    options=frozenset({"loss", "tokenizer"}),
)
