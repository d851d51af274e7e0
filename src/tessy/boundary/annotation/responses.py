"""The input of `tessy annotate`: sampled responses of one author."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tessy.boundary.annotation.segments import Response
from tessy.core.errors import InputError, RunError
from tessy.core.records import Author, Trajectory, problem_digest
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import iter_failures, iter_trajectories, read_config

_SHOWN = 20


class Responses:
    """The responses of a run, and its config.json; ``count`` of them were read so far."""

    def __init__(self, directory: Path) -> None:
        self.document: dict[str, Any] = read_config(directory)
        self.count = 0
        self._directory = directory
        self._first_author: Author | None = None
        files = RunPaths(directory).row_files()
        self._file = files[0] if len(files) == 1 else directory

    def read(self) -> Iterator[Response]:
        """Yield the responses in file order.

        Raises:
            InputError: After the last row: some rows, which are listed, cannot be annotated.
            RunError: After the last row: there was no response.
        """
        faults = []
        for row in iter_trajectories(self._directory):
            fault = self._fault(row)
            if fault is not None:
                faults.append(f"  {self._file}: {row.id}/{row.sample}: {fault}")
                continue
            self.count += 1
            question, author = problem_digest(row.messages), row.spans[0].author
            yield Response(row.id, row.sample, question, author, row.thinking)
        if faults:
            shown, more = "\n".join(faults[:_SHOWN]), len(faults) - _SHOWN
            raise InputError(
                f"{len(faults)} response(s) cannot be annotated:\n{shown}"
                + (f"\n  … and {more} more" if more > 0 else "")
                + "\ngive a run of one model's own responses, as written by `tessy sample`"
            )
        if not self.count:
            raise RunError(f"{self._directory} has no finished response to annotate")

    def failed(self) -> int:
        """Return the number of failed samples, which are skipped."""
        return sum(1 for _ in iter_failures(self._directory))

    def _fault(self, row: Trajectory) -> str | None:
        """Return why a row cannot be annotated; None if it can."""
        if not row.thinking.strip():
            return "it has no thinking"
        authors = {span.author for span in row.spans}
        if len(authors) > 1:
            return "its thinking is by both student and teacher"
        (author,) = authors
        first = self._first_author = self._first_author or author
        if author != first:
            return f"its thinking is by the {author}, that of earlier rows by the {first}"
        return None
