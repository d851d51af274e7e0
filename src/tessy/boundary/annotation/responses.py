"""Sampled responses as `tessy annotate` reads them: the thinking of one author."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tessy.boundary.annotation.segments import Response
from tessy.core.errors import InputError, RunError
from tessy.core.records import Author, Trajectory, question_digest
from tessy.storage.run_dir import RunPaths, iter_failures, iter_trajectories, read_config

_SHOWN = 20


class Responses:
    """The responses of a run.

    Attributes:
        document: The content of the run's config.json.
        count: Responses read so far.
        author: Who wrote those read so far.
    """

    def __init__(self, directory: Path) -> None:
        """Look at the run in ``directory``; no row is read.

        Raises:
            RunError: There is no run.
        """
        self.document: dict[str, Any] = read_config(directory)
        self.count = 0
        self.author: Author | None = None
        self._directory = directory
        paths = RunPaths(directory)
        files = paths.row_files()
        self._file = files[0] if len(files) == 1 else directory
        self._faults: list[str] = []

    def read(self) -> Iterator[Response]:
        """Every response, one at a time, in file order.

        Raises:
            InputError: In the end: rows have no thinking, or not one author; names file and rows.
            RunError: In the end: there was none.
        """
        for row in iter_trajectories(self._directory):
            author = self._author(row)
            if author is not None:
                self.count += 1
                question = question_digest(row.messages)
                yield Response(row.id, row.sample, question, author, row.thinking)
        if self._faults:
            shown = "\n".join(f"  {fault}" for fault in self._faults[:_SHOWN])
            more = len(self._faults) - _SHOWN
            raise InputError(
                f"{len(self._faults)} response(s) cannot be annotated:\n{shown}"
                + (f"\n  … and {more} more" if more > 0 else "")
                + "\ngive a run of one model's own responses, as `tessy sample` makes it"
            )
        if not self.count:
            raise RunError(f"{self._directory} has no finished response to annotate")

    def failed(self) -> int:
        """How many samples of the run failed; they are left out."""
        return sum(1 for _ in iter_failures(self._directory))

    def _author(self, row: Trajectory) -> Author | None:
        """Who wrote the thinking; None after noting what is wrong with it."""
        where = f"{self._file}: {row.id}/{row.sample}:"
        if not row.thinking.strip():
            self._faults.append(f"{where} it has no thinking")
            return None
        authors = {span.author for span in row.spans}
        if len(authors) > 1:
            self._faults.append(f"{where} student and teacher wrote its thinking together")
            return None
        (author,) = authors
        self.author = self.author or author
        if author != self.author:
            self._faults.append(
                f"{where} its thinking is by the {author}, that of rows before by the {self.author}"
            )
            return None
        return author
