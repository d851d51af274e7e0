"""What a command writes for the samples of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tessy.config.base import Config
from tessy.runtime.runner import JobResult
from tessy.storage.run_config import RowKind
from tessy.storage.run_reader import TRAJECTORIES

Finish = Callable[[JobResult, Callable[[], None]], Awaitable[JobResult]]
"""Returns a result with its row; calls its second argument wherever it can be interrupted."""


async def _unchanged(result: JobResult, checkpoint: Callable[[], None]) -> JobResult:
    return result


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The rows of a run, if they are others than those of its samples.

    Attributes:
        kind: Kind of the rows.
        options: All options of the command, for config.json; None: those of the run.
        data: Further options that determine the rows; they override those of the run.
        facts: Further entries of `config` in config.json; they may change when a run is resumed.
        strategy: Strategy of the samples; None: that of the run.
        finish: Makes the row of a trajectory or a failure, while other samples are generated.
    """

    kind: RowKind[Any, Any, Any] = TRAJECTORIES
    options: Config | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    strategy: str | None = None
    finish: Finish = _unchanged


SAMPLES = RunOutput()
"""The samples themselves."""
