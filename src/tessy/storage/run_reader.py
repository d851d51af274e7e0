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
    """The content of a run.

    Attributes:
        config: Content of config.json.
        trajectories: The last trajectory of each key, in file order.
        failures: The last failure of each key without a trajectory.
    """

    config: dict[str, Any]
    trajectories: tuple[Trajectory, ...]
    failures: tuple[Failure, ...]


def read_config(directory: str | Path) -> dict[str, Any]:
    """Read config.json of the run in ``directory``.

    Raises:
        RunError: There is no run, or this version cannot read it.
    """
    return run_config.read(RunPaths(directory).config, "trajectories")


def iter_trajectories(directory: str | Path) -> Iterator[Trajectory]:
    """Yield the last trajectory of each key; only keys are held in memory.

    The run may be in progress: later rows and an incomplete last line are ignored.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    read_config(directory)
    files = RunPaths(directory).row_files()
    locations = jsonl.last_rows(files, jsonl.row_key)
    yield from jsonl.rows_at(Trajectory, files, locations, jsonl.row_key)


def iter_failures(directory: str | Path) -> Iterator[Failure]:
    """Yield the last failure of each key without a trajectory; see :func:`iter_trajectories`.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    read_config(directory)
    paths = RunPaths(directory)
    # Failures first: a key that succeeds between the two reads counts as a success.
    failed = jsonl.last_rows(paths.failure_files(), jsonl.row_key)
    done = jsonl.last_rows(paths.row_files(), jsonl.row_key)
    locations = {key: place for key, place in failed.items() if key not in done}
    yield from jsonl.rows_at(Failure, paths.failure_files(), locations, jsonl.row_key)


def read_run(directory: str | Path) -> RunData:
    """Read all trajectories and failures of a run into memory.

    Raises:
        RunError: There is no run in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    config = read_config(directory)
    failures = tuple(iter_failures(directory))
    trajectories = tuple(iter_trajectories(directory))
    done = {
        row.key for row in trajectories
    }  # may include rows written after the failures were read
    return RunData(config, trajectories, tuple(row for row in failures if row.key not in done))
