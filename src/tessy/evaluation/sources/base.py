"""Sources of problems: the files of a benchmark, their rows, and the tests of programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tessy.core.errors import RowFault
from tessy.core.records import Problem
from tessy.evaluation.programs.task import ProgramTask
from tessy.storage.conversations import BadField, kind
from tessy.storage.tables import InputRow, read_rows

Row = InputRow | RowFault


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a data set on the Hugging Face hub, at a fixed commit.

    ``sha256`` is the checksum of the file, or as many of its first digits as are known; empty: it
    is not known.
    """

    dataset: str
    revision: str  # commit, 40 hex digits
    path: str
    sha256: str = ""

    @property
    def source(self) -> Path:
        """Name for :func:`tessy.storage.sources.resolve_sources`."""
        return Path(f"hf://datasets/{self.dataset}@{self.revision}/{self.path}")


@dataclass(frozen=True, slots=True)
class BenchmarkData:
    """The files of a benchmark on this machine.

    Attributes:
        files: Files with its rows.
        folder: Folder that the user named; None: a file, or the hub.
        from_hub: Whether they come from the hub.
        known: Files whose checksum is known in full.
    """

    files: tuple[Path, ...]
    folder: Path | None = None
    from_hub: bool = False
    known: frozenset[Path] = frozenset()


class ProblemSource(Protocol):
    """Reads the files of a benchmark."""

    def rows(self, file: Path) -> Iterator[Row]:
        """Yield the rows of a file as those of a file of problems, or their faults."""
        ...

    def program(self, problem: Problem) -> ProgramTask | None:
        """Return how programs for a problem are judged; None if its answers are no programs."""
        ...


Convert = Callable[[Path, InputRow], dict[str, Any] | None]
"""Converts a row; returns None to leave it out, and raises BadField for a bad one."""


class AnswerSource:
    """A source of problems with reference answers, by default in files of problems."""

    def __init__(self, data: BenchmarkData, convert: Convert | None = None) -> None:
        self._convert = convert

    def rows(self, file: Path) -> Iterator[Row]:
        """Yield the rows, converted."""
        yield from read_rows(file) if self._convert is None else converted(file, self._convert)

    def program(self, problem: Problem) -> ProgramTask | None:
        """Return None: the answers are no programs."""
        return None


def converted(file: Path, convert: Convert) -> Iterator[Row]:
    """Yield the converted rows of a file, or their faults."""
    for row in read_rows(file):
        if isinstance(row, RowFault):
            yield row
            continue
        try:
            value = convert(file, row)
        except BadField as error:
            yield RowFault(str(file), row.line, error.field, str(error))
        else:
            if value is not None:
                yield InputRow(row.line, value)


def object_of(row: InputRow) -> dict[str, Any]:
    """Return the object of a row; BadField if it is none."""
    if not isinstance(row.value, dict):
        raise BadField("(row)", f"expected an object, got {kind(row.value)}")
    return row.value


def text_of(row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """Return a field with text; BadField without it."""
    value = row.get(name)
    if not isinstance(value, str) or not (empty or value.strip()):
        found = "empty text" if isinstance(value, str) else kind(value)
        raise BadField(name, f"expected text, got {found}")
    return value
