"""``tessy export``: the samples of a run as training data.

Rows are read and written one after the other, and the result takes its place when it is whole.
The same run gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tessy.config.data import ExportConfig
from tessy.core.errors import ConfigError, InputError
from tessy.core.records import Author, Trajectory
from tessy.data.derived_run import SourceRow, reading
from tessy.data.export import chat
from tessy.data.export.destination import ADVICE, check_place
from tessy.data.export.report import ExportResult, closing, hint
from tessy.runtime.terminal import visible
from tessy.storage import jsonl
from tessy.storage.atomic import new_file, new_folder
from tessy.storage.cards import write_readme
from tessy.storage.run_dir import RunPaths, iter_failures, read_config

_CHAT: Mapping[str, Callable[[Trajectory], dict[str, Any]]] = {
    "messages": chat.messages,
    "sharegpt": chat.sharegpt,
    "dialogs": chat.dialogs,
}
_SUFFIX = {"hf": "", "parquet": ".parquet", "tokens": ".parquet"} | dict.fromkeys(_CHAT, ".jsonl")


def export(config: ExportConfig, console: Console | None = None) -> int:
    """Write the samples and say what was written and how to load it; the exit code.

    Raises:
        InputError: There is no run, it is empty, the place cannot be used, or an option does not
            fit; nothing was written.
        StorageError: It could not be written; what was there is untouched.
    """
    console = console or Console()
    document = read_config(config.run)
    out = config.out or config.run / "export" / f"{config.to}{_SUFFIX[config.to]}"
    _check_options(config)
    check_place(out, config.run, _SUFFIX[config.to])
    with reading(config.run, "Exporting") as items:
        rows = _some(config.run, items)
        if config.to == "tokens":
            written = _tokens(config, document, rows, out)
        elif config.to == "hf":
            written = _hub(config, document, rows, out)
        elif config.to == "parquet":
            written = _parquet(rows, out)
        else:
            written = _lines(_CHAT[config.to], rows, out)
    said = f"{closing(written, out)}\n{hint(config, written, out)}"
    console.print(Text(visible(said)), soft_wrap=True)
    return 0


def _check_options(config: ExportConfig) -> None:
    """Refuse options that would have no effect: the user believes in another result."""
    for name, given, of in (
        ("loss", config.loss != "all", "tokens"),
        ("tokenizer", config.tokenizer is not None, "tokens"),
        ("licence", config.licence is not None, "hf"),
    ):
        if given and config.to != of:
            raise ConfigError(f"--{name} is for --to {of} only; leave it out for {config.to}")


def _some(run: Path, items: Iterable[SourceRow]) -> Iterator[Trajectory]:
    """The rows of ``items``, which are those of the run.

    Raises:
        InputError: There are none.
    """
    rows = (item.row for item in items)
    first = next(rows, None)
    if first is None:
        raise InputError(
            f"{run} has no finished samples, so there is nothing to export; go on with the run, or "
            "see failures.jsonl for what became of its samples"
        )
    return chain((first,), rows)


def _lines(
    convert: Callable[[Trajectory], dict[str, Any]], rows: Iterable[Trajectory], out: Path
) -> ExportResult:
    written = ExportResult()
    with new_file(out, ADVICE) as path, path.open("wb") as file:
        for row in rows:
            file.write(jsonl.dump_line(convert(written.add(row))))
    return written


def _parquet(rows: Iterable[Trajectory], out: Path) -> ExportResult:
    from tessy.data.export.parquet import (
        ParquetRows,
        trajectory_bytes,
        trajectory_cells,
        trajectory_schema,
    )

    written = ExportResult()
    with new_file(out, ADVICE) as path, ParquetRows(path, trajectory_schema()) as table:
        for row in rows:
            table.add(trajectory_cells(written.add(row)), trajectory_bytes(row))
    return written


def _hub(
    config: ExportConfig, document: Mapping[str, Any], rows: Iterable[Trajectory], out: Path
) -> ExportResult:
    from tessy.data.export.card import DataCardFacts, data_card
    from tessy.data.export.hub import write_shards

    written, facts = ExportResult(), DataCardFacts()
    with new_folder(out, ADVICE) as folder:
        write_shards(map(written.add, rows), folder / "data", facts)
        for failure in iter_failures(config.run):
            facts.summary.add_failure(failure)
        name = config.run.resolve().name
        card = data_card(name, document, facts, _summary(config.run), licence=config.licence)
        write_readme(folder, card)
    return written


def _summary(run: Path) -> dict[str, Any]:
    """The content of summary.json; empty for a run that has not come to its end yet."""
    try:
        content = jsonl.loads(RunPaths(run).summary.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _tokens(
    config: ExportConfig, document: Mapping[str, Any], rows: Iterable[Trajectory], out: Path
) -> ExportResult:
    from tessy.data.export.loss import parse_loss
    from tessy.data.export.parquet import ParquetRows, token_schema
    from tessy.data.export.student import load_format
    from tessy.data.export.tokens import labels, tokenize, writers

    weights = parse_loss(config.loss)
    form, digest = load_format(document, config.tokenizer)
    written = ExportResult(learned=0)
    wrote: set[Author] = set()
    with new_file(out, ADVICE) as path, ParquetRows(path, token_schema()) as table:
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
                f"--loss {config.loss}: every word of thinking and answers in {config.run} is the "
                f"{wrote.pop()}'s, so nothing but markup would be learned, and "
                "with it to think nothing; give --loss all, or export another run"
            )
        table.describe(
            {
                "run": config.run.resolve().name,
                "format_digest": digest,
                "tokenizer_digest": form.renderer.codec.digest,
                "end_of_turn_id": form.end_id,
                "loss": config.loss,
                "weights": weights,
                "straddling_token": "belongs to the author of its first character",
                "rows": written.rows,
                "tokens": written.tokens,
                "learned_tokens": written.learned,
                "rows_tokenized_again": written.encoded,
            }
        )
    return written
