"""Readers of run directories, for finished runs and runs in progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tessy.core.errors import RunError
from tessy.core.records import Evaluation, Failure, Trajectory
from tessy.storage import jsonl, run_config
from tessy.storage.run_config import FailureT, KeyT, RowKind, RowT
from tessy.storage.run_paths import RunPaths

TRAJECTORIES = RowKind(
    name="trajectories",
    row=Trajectory,
    failure=Failure,
    key_of=jsonl.row_key,
    directory="run",
    made_by="`tessy synthesize` and `tessy sample` create such runs",
)

EVALUATIONS = RowKind(
    name="evaluations",
    row=Evaluation,
    failure=Failure,
    key_of=jsonl.row_key,
    directory="run of `tessy evaluate`",
    made_by="`tessy evaluate` creates such runs",
)


def read_config(
    directory: str | Path, kind: run_config.AnyRowKind = TRAJECTORIES
) -> dict[str, Any]:
    """Read config.json of the run in ``directory``; see :func:`tessy.storage.run_config.read`."""
    return run_config.read(RunPaths(directory, kind.name).config, kind)


def is_evaluation(directory: str | Path) -> bool:
    """Return whether ``directory`` is a readable run of `tessy evaluate`."""
    with suppress(RunError):
        read_config(directory, EVALUATIONS)
        return True
    return False


def kind_of(directory: str | Path) -> run_config.AnyRowKind:
    """Return the kind of rows of a run: evaluations, or else trajectories."""
    return EVALUATIONS if is_evaluation(directory) else TRAJECTORIES


def iter_rows(directory: str | Path, kind: RowKind[KeyT, RowT, FailureT]) -> Iterator[RowT]:
    """Yield the last row of each key; only keys are held in memory.

    The run may be in progress: later rows and an incomplete last line are ignored.

    Raises:
        RunError: There is no run of this kind of rows in ``directory``.
        InputError: A line cannot be read; names file and line.
    """
    read_config(directory, kind)
    files = RunPaths(directory, kind.name).row_files()
    yield from jsonl.rows_at(kind.row, files, jsonl.last_rows(files, kind.key_of), kind.key_of)


def iter_failed_rows(
    directory: str | Path, kind: RowKind[KeyT, RowT, FailureT]
) -> Iterator[FailureT]:
    """Yield the last failure of each key without a row; raises like :func:`iter_rows`."""
    read_config(directory, kind)
    paths = RunPaths(directory, kind.name)
    locations = _failed(paths, kind)
    yield from jsonl.rows_at(kind.failure, paths.failure_files(), locations, kind.key_of)


def _failed(paths: RunPaths, kind: RowKind[KeyT, RowT, FailureT]) -> dict[KeyT, jsonl.Location]:
    # Failures first: a key that succeeds between the two reads counts as a success.
    failed = jsonl.last_rows(paths.failure_files(), kind.key_of)
    if not failed:
        return {}  # rows are many, and are read for the keys of failures only
    done = jsonl.last_rows(paths.row_files(), kind.key_of)
    return {key: place for key, place in failed.items() if key not in done}


def iter_trajectories(directory: str | Path) -> Iterator[Trajectory]:
    """Yield the last trajectory of each key; see :func:`iter_rows`."""
    return iter_rows(directory, TRAJECTORIES)


def iter_failures(directory: str | Path) -> Iterator[Failure]:
    """Yield the last failure of each key without a trajectory; see :func:`iter_failed_rows`."""
    return iter_failed_rows(directory, TRAJECTORIES)


def iter_superseded(
    directory: str | Path, kind: run_config.AnyRowKind = TRAJECTORIES
) -> Iterator[Failure]:
    """Yield the other failures: a later row of their key replaces them, and only their cost counts.

    Raises like :func:`iter_rows`.
    """
    read_config(directory, kind)
    paths = RunPaths(directory, kind.name)
    counted = _failed(paths, kind)
    for path in paths.failure_files():
        for line in jsonl.read_lines(path):
            if counted.get(kind.key_of(path, line)) != (path, line.offset):
                yield jsonl.parse_row(kind.failure, path, line)
