"""Paths of the files in a run directory.

NAME/
  run.lock             host and process id of the owner
  config.json          options of the run; resume compares the data-relevant part
  trajectories.jsonl   finished samples, one row per line (named by the kind of rows)
  failures.jsonl       log of failures; later rows of a key, finished or failed, replace its row
  parts/*.jsonl        rows from several machines (parts/*.failures.jsonl: failures)
  journal.sqlite       samples in flight
  summary.json, report.html, run.log
"""

from __future__ import annotations

from pathlib import Path


class RunPaths:
    """Paths of the files in a run directory; ``rows`` is the name of the kind of its rows."""

    def __init__(self, directory: str | Path, rows: str = "trajectories") -> None:
        self.directory = Path(directory)
        self.lock = self.directory / "run.lock"
        self.config = self.directory / "config.json"
        self.rows = self.directory / f"{rows}.jsonl"
        self.failures = self.directory / "failures.jsonl"
        self.parts = self.directory / "parts"
        self.journal = self.directory / "journal.sqlite"
        self.summary = self.directory / "summary.json"
        self.report = self.directory / "report.html"
        self.log = self.directory / "run.log"

    def has_started(self) -> bool:
        """Return whether any row or failure was written, or a sample was started."""
        files = (*self.row_files(), *self.failure_files())
        return self.journal.exists() or any(path.stat().st_size for path in files)

    def row_files(self) -> list[Path]:
        """Return existing files of rows; of rows with equal keys the last one counts."""
        parts = [part for part in self._parts() if not part.name.endswith(".failures.jsonl")]
        return [path for path in (self.rows, *parts) if path.exists()]

    def failure_files(self) -> list[Path]:
        """Return existing files of failures, in the same order."""
        parts = [part for part in self._parts() if part.name.endswith(".failures.jsonl")]
        return [path for path in (self.failures, *parts) if path.exists()]

    def _parts(self) -> list[Path]:
        return sorted(self.parts.glob("*.jsonl"))
