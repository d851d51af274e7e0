"""All rows of a run in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessy.core.records import Failure, Trajectory
from tessy.storage.run_reader import iter_failures, iter_trajectories, read_config


@dataclass(frozen=True, slots=True)
class RunData:
    """The content of a run: config.json, and the last row of each key."""

    config: dict[str, Any]
    trajectories: tuple[Trajectory, ...]
    failures: tuple[Failure, ...]


def read_run(directory: str | Path) -> RunData:
    """Read all trajectories and failures of a run."""
    failures, rows = tuple(iter_failures(directory)), tuple(iter_trajectories(directory))
    return RunData(read_config(directory), rows, failures)
