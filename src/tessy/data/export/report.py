"""Result of an export, and the message about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tessy.core.formatting import counted, size
from tessy.core.records import Trajectory
from tessy.data.export import chat


@dataclass
class ExportResult:
    """Counts of an export.

    Attributes:
        rows: Number of samples.
        tokens: Tokens of thinking and answer as counted by the run, or of whole conversations in
            the format ``tokens``.
        learned: Tokens with a label; None for formats without labels.
        encoded: Rows that were tokenized again.
        bare: Rows where only markup has labels.
        uneven: Rows whose roles do not alternate.
    """

    rows: int = 0
    tokens: int = 0
    learned: int | None = None
    encoded: int = 0
    bare: int = 0
    uneven: int = 0

    def add(self, row: Trajectory) -> Trajectory:
        """Count a row and return it."""
        self.rows += 1
        self.tokens += row.tokens.student + row.tokens.teacher + row.tokens.answer
        self.uneven += not chat.alternates(row)
        return row


def describe_result(result: ExportResult, out: Path) -> str:
    """Return a message about the size of an export and its limitations."""
    learned = "" if result.learned is None else f" ({result.learned:,} with labels)"
    files = sorted(out.rglob("*.parquet")) if out.is_dir() else [out]
    total = sum(path.stat().st_size for path in files)
    shards = f" in {counted(len(files), 'file')}" if out.is_dir() else ""
    text = (
        f"{out}: {counted(result.rows, 'sample')}, {counted(result.tokens, 'token')}{learned}, "
        f"{size(total)}{shards}."
    )
    if result.encoded:
        text += (
            f"\n{counted(result.encoded, 'sample')} without matching token ids (`--no-ids`, a "
            f"server without ids, an older run) {'was' if result.encoded == 1 else 'were'} "
            "tokenized again."
        )
    if result.bare:
        text += (
            f"\n{counted(result.bare, 'sample')} without text by an author with a loss weight: "
            "only markup has labels there."
        )
    return text
