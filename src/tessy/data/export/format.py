"""Interface of the export formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessy.config.data import ExportConfig
from tessy.core.records import Trajectory
from tessy.storage import jsonl
from tessy.storage.atomic import new_file

ADVICE = "free some space or choose another --out, then run the command again; the run is unchanged"
_CHAT_REMARK = (
    "TRL also trains on the prompt, and applies the model's chat template: those of DeepSeek-R1 "
    "and gpt-oss remove thinking from the content. --to tokens trains on the response only, "
    "including thinking."
)


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Source and destination of an export."""

    options: ExportConfig
    document: Mapping[str, Any]  # content of the run's config.json
    out: Path

    @property
    def quoted_out(self) -> str:
        """The absolute path of ``out`` as a JSON string."""
        return json.dumps(str(self.out.resolve()), ensure_ascii=False)


@dataclass
class ExportResult:
    """Counts of an export."""

    rows: int = 0
    tokens: int = 0  # of thinking and answer; in the format `tokens`, of whole conversations
    learned: int | None = None  # tokens with a label; None for formats without labels
    encoded: int = 0  # rows that were tokenized again
    bare: int = 0  # rows where only markup has labels
    uneven: int = 0  # rows whose roles do not alternate

    def add(self, row: Trajectory) -> Trajectory:
        """Count a row and return it."""
        self.rows += 1
        self.tokens += row.tokens.student + row.tokens.teacher + row.tokens.answer
        self.uneven += not alternates(row)
        return row


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format; each module of the package ``formats`` defines one as ``FORMAT``.

    Attributes:
        suffix: File suffix; empty for a folder.
        write: Writes the rows. Raises InputError if they cannot be represented, and StorageError.
        hint: Returns how to load the result in a trainer.
        options: Options that apply only to some formats, including this one.
        entries: Entries of an exported folder. A folder with any other entry is not replaced.
    """

    name: str
    suffix: str
    write: Callable[[ExportJob, Iterable[Trajectory]], ExportResult]
    hint: Callable[[ExportJob, ExportResult], str]
    options: frozenset[str] = frozenset()
    entries: frozenset[str] = frozenset()


def json_lines(
    convert: Callable[[Trajectory], dict[str, Any]],
) -> Callable[[ExportJob, Iterable[Trajectory]], ExportResult]:
    """Return a function that writes one JSON object per row."""

    def write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
        with new_file(job.out, ADVICE) as path:
            return write_json_lines(convert, rows, path)

    return write


def write_json_lines(
    convert: Callable[[Trajectory], dict[str, Any]], rows: Iterable[Trajectory], path: Path
) -> ExportResult:
    """Write one JSON object per row to ``path``."""
    result = ExportResult()
    with path.open("wb") as file:
        for row in rows:
            file.write(jsonl.dump_line(convert(result.add(row))))
    return result


def trl_hint(source: str, remark: str = _CHAT_REMARK) -> str:
    """Return how to load data in TRL; ``source`` is the arguments of ``load_dataset``."""
    dataset = f'train_dataset=load_dataset({source}, split="train")'
    return f"TRL: {dataset}, with SFTConfig(max_length=None)\n{remark}"


def exported_id(row: Trajectory) -> str:
    """Return ``<problem id>/<sample>``, the id of a sample outside its run."""
    return f"{row.id}/{row.sample}"


def alternates(row: Trajectory) -> bool:
    """Return whether user and assistant alternate, after at most one system message.

    LLaMA-Factory skips other conversations, with only a warning in its log.
    """
    roles = [turn.role for turn in row.messages]
    if roles[0] == "system":
        del roles[0]
    return roles == ["user", "assistant"] * (len(roles) // 2)


def turns(row: Trajectory) -> list[dict[str, str]]:
    """Return the turns of a row as ``role`` and ``content``."""
    return [{"role": turn.role, "content": turn.content} for turn in row.messages]
