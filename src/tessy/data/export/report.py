"""The closing message of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tessy.core.formatting import size
from tessy.core.records import Trajectory
from tessy.data.export import chat


@dataclass
class ExportResult:
    """What was written.

    Attributes:
        rows: Samples.
        tokens: Their tokens: of thinking and answer as the run counted them, or, pretokenised,
            of whole conversations.
        learned: Tokens with a label, where there are labels.
        encoded: Rows that had to be tokenized again.
        bare: Rows of which nothing but markup is learned.
        uneven: Rows whose turns do not alternate.
    """

    rows: int = 0
    tokens: int = 0
    learned: int | None = None
    encoded: int = 0
    bare: int = 0
    uneven: int = 0

    def add(self, row: Trajectory) -> Trajectory:
        """Count a row; return it."""
        self.rows += 1
        self.tokens += row.tokens.student + row.tokens.teacher + row.tokens.answer
        self.uneven += not chat.alternates(row)
        return row


def closing(written: ExportResult, out: Path) -> str:
    """Return what was written, how much, and its limitations."""
    learned = "" if written.learned is None else f", {written.learned:,} of them learned"
    files = sorted(out.rglob("*.parquet")) if out.is_dir() else [out]
    held = sum(path.stat().st_size for path in files)
    shards = f" in {len(files)} file(s)" if out.is_dir() else ""
    text = (
        f"{out}: {written.rows:,} samples, {written.tokens:,} tokens{learned}, "
        f"{size(held)}{shards}."
    )
    if written.encoded:
        text += (
            f"\n{written.encoded:,} of the samples had no ids that spell their text (`--no-ids`, a "
            "server without ids, an older run): these were tokenized again."
        )
    if written.bare:
        text += (
            f"\nIn {written.bare:,} of the samples no word is by the author that is learned: of "
            "these only markup is."
        )
    return text
