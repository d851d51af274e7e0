"""What an export format is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessy.config.data import ExportConfig
from tessy.core.records import Trajectory
from tessy.data.export.destination import ADVICE
from tessy.data.export.report import ExportResult
from tessy.storage import jsonl
from tessy.storage.atomic import new_file


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What is exported, and where.

    Attributes:
        options: Options of the command.
        document: config.json of the run.
        out: The file or folder to write.
    """

    options: ExportConfig
    document: Mapping[str, Any]
    out: Path

    @property
    def quoted_out(self) -> str:
        """The absolute path of ``out`` as a JSON string."""
        return json.dumps(str(self.out.resolve()), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format; each module of the package ``formats`` calls its format ``FORMAT``.

    Attributes:
        name: Name on the command line.
        suffix: Suffix of the file; empty for a folder.
        write: Writes the rows. Raises InputError if they cannot be written in this format, and
            StorageError.
        hint: Returns how a trainer loads the result.
        options: Options that only this format takes.
    """

    name: str
    suffix: str
    write: Callable[[ExportJob, Iterable[Trajectory]], ExportResult]
    hint: Callable[[ExportJob, ExportResult], str]
    options: frozenset[str] = frozenset()


def json_lines(
    convert: Callable[[Trajectory], dict[str, Any]],
) -> Callable[[ExportJob, Iterable[Trajectory]], ExportResult]:
    """Return a writer of one JSON object per row."""

    def write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
        written = ExportResult()
        with new_file(job.out, ADVICE) as path, path.open("wb") as file:
            for row in rows:
                file.write(jsonl.dump_line(convert(written.add(row))))
        return written

    return write


def trl_hint(source: str, remark: str) -> str:
    """Return how TRL loads ``source``, the arguments of ``load_dataset``."""
    dataset = f'train_dataset=load_dataset({source}, split="train")'
    return f"TRL: {dataset}, with SFTConfig(max_length=None)\n{remark}"


CHAT_REMARK = (
    "TRL learns the prompt too, and trains on what the model's chat template shows: those of "
    "DeepSeek-R1 and gpt-oss drop thinking in the content. --to tokens learns the response alone, "
    "thinking included."
)
