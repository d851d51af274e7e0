"""Readers of run directories, for finished runs and runs in progress."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessy.core.records import Failure, Trajectory
from tessy.storage import jsonl, run_config
from tessy.storage.run_paths import RunPaths


@dataclass(frozen=True, slots=True)
class RunData:
    """A run as its consumers see it.

    Attributes:
        config: The content of config.json.
        trajectories: The last one of each key, in file order.
        failures: The last one of each key that has no trajectory.
    """

    config: dict[str, Any]
    trajectories: tuple[Trajectory, ...]
    failures: tuple[Failure, ...]


def read_config(directory: str | Path) -> dict[str, Any]:
    """The content of config.json of the run in ``directory``.

    Raises:
        RunError: There is no run, or this version cannot read it.
    """
    return run_config.read(RunPaths(directory).config, "trajectories")


def iter_trajectories(directory: str | Path) -> Iterator[Trajectory]:
    """The last trajectory of each key, one at a time; memory holds the keys only.

    The run may be in the making: rows that come later, and a last line half written, are left out.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    read_config(directory)
    files = RunPaths(directory).row_files()
    places = jsonl.last_rows(files, jsonl.row_key)
    yield from jsonl.rows_at(Trajectory, files, places, jsonl.row_key)


def iter_failures(directory: str | Path) -> Iterator[Failure]:
    """The last failure of each key that has no trajectory, read as :func:`iter_trajectories` does.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    read_config(directory)
    paths = RunPaths(directory)
    # Failures first: a key that succeeds between the two readings shows as a success.
    failed = jsonl.last_rows(paths.failure_files(), jsonl.row_key)
    done = jsonl.last_rows(paths.row_files(), jsonl.row_key)
    places = {key: place for key, place in failed.items() if key not in done}
    yield from jsonl.rows_at(Failure, paths.failure_files(), places, jsonl.row_key)


def read_run(directory: str | Path) -> RunData:
    """Everything a run has made, as :func:`iter_trajectories` reads it, in memory.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    config = read_config(directory)
    failures = tuple(iter_failures(directory))
    trajectories = tuple(iter_trajectories(directory))
    done = {row.key for row in trajectories}  # a row may have come after the failures were read
    return RunData(config, trajectories, tuple(row for row in failures if row.key not in done))
