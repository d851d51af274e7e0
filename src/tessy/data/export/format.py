"""Interface of the export formats."""

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
    """Source and destination of an export.

    Attributes:
        options: Options of the command.
        document: Content of the run's config.json.
        out: File or folder to write.
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
    """A format; each module of the package ``formats`` defines one as ``FORMAT``.

    Attributes:
        name: Name on the command line.
        suffix: File suffix; empty for a folder.
        write: Writes the rows. Raises InputError if they cannot be represented, and StorageError.
        hint: Returns how to load the result in a trainer.
        options: Options that apply only to some formats, including this one.
    """

    name: str
    suffix: str
    write: Callable[[ExportJob, Iterable[Trajectory]], ExportResult]
    hint: Callable[[ExportJob, ExportResult], str]
    options: frozenset[str] = frozenset()


def json_lines(
    convert: Callable[[Trajectory], dict[str, Any]],
) -> Callable[[ExportJob, Iterable[Trajectory]], ExportResult]:
    """Return a function that writes one JSON object per row."""

    def write(job: ExportJob, rows: Iterable[Trajectory]) -> ExportResult:
        result = ExportResult()
        with new_file(job.out, ADVICE) as path, path.open("wb") as file:
            for row in rows:
                file.write(jsonl.dump_line(convert(result.add(row))))
        return result

    return write


def trl_hint(source: str, remark: str) -> str:
    """Return how to load data in TRL; ``source`` is the arguments of ``load_dataset``."""
    dataset = f'train_dataset=load_dataset({source}, split="train")'
    return f"TRL: {dataset}, with SFTConfig(max_length=None)\n{remark}"


CHAT_REMARK = (
    "TRL also trains on the prompt, and applies the model's chat template: those of DeepSeek-R1 "
    "and gpt-oss remove thinking from the content. --to tokens trains on the response only, "
    "including thinking."
)
