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
    """The responses of a run.

    Attributes:
        document: Content of the run's config.json.
        count: Number of responses read so far.
    """

    def __init__(self, directory: Path) -> None:
        """Open the run in ``directory``, without reading rows.

        Raises:
            RunError: There is no run.
        """
        self.document: dict[str, Any] = read_config(directory)
        self.count = 0
        self._directory = directory
        self._first_author: Author | None = None
        files = RunPaths(directory).row_files()
        self._file = files[0] if len(files) == 1 else directory
        self._errors: list[str] = []

    def read(self) -> Iterator[Response]:
        """Yield the responses in file order.

        Raises:
            InputError: After the last row: some have no thinking or several authors; lists them.
            RunError: After the last row: there was no response.
        """
        for row in iter_trajectories(self._directory):
            author = self._author(row)
            if author is not None:
                self.count += 1
                question = problem_digest(row.messages)
                yield Response(row.id, row.sample, question, author, row.thinking)
        if self._errors:
            shown = "\n".join(f"  {fault}" for fault in self._errors[:_SHOWN])
            more = len(self._errors) - _SHOWN
            raise InputError(
                f"{len(self._errors)} response(s) cannot be annotated:\n{shown}"
                + (f"\n  … and {more} more" if more > 0 else "")
                + "\ngive a run of one model's own responses, as written by `tessy sample`"
            )
        if not self.count:
            raise RunError(f"{self._directory} has no finished response to annotate")

    def failed(self) -> int:
        """Return the number of failed samples, which are skipped."""
        return sum(1 for _ in iter_failures(self._directory))

    def _author(self, row: Trajectory) -> Author | None:
        """Return the author of the thinking; None, and record an error, if it is unusable."""
        where = f"{self._file}: {row.id}/{row.sample}:"
        if not row.thinking.strip():
            self._errors.append(f"{where} it has no thinking")
            return None
        authors = {span.author for span in row.spans}
        if len(authors) > 1:
            self._errors.append(f"{where} its thinking is by both student and teacher")
            return None
        (author,) = authors
        self._first_author = self._first_author or author
        if author != self._first_author:
            self._errors.append(
                f"{where} its thinking is by the {author}, that of earlier rows by the "
                f"{self._first_author}"
            )
            return None
        return author
