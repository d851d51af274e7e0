"""How jobs end: their result files, and the errors that end a job without scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tessy.core.errors import EXIT_INTERRUPTED, RunError, TessyError


class JobError(TessyError):
    """A job of the experiment failed."""


class SkippedError(Exception):
    """A job that cannot run. The message is recorded as its result."""


class JobInterrupted(Exception):
    """Ctrl-C stopped a command inside a job; the job has no result."""


def check_status(code: int, what: str) -> None:
    """Raise if a command inside a job did not end with status 0."""
    if code == EXIT_INTERRUPTED:
        raise JobInterrupted(what)
    if code:
        raise JobError(f"{what} ended with status {code}")


def read_result(path: Path) -> dict[str, Any]:
    """Return the result of a finished job.

    Raises:
        RunError: The file cannot be read, or is damaged.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"a result cannot be read: {error}; check the folder") from error
    except ValueError:
        found = None
    if isinstance(found, dict) and found.get("job") == path.stem:
        return found
    raise RunError(
        f"{path} is damaged: it is not the result of the job {path.stem}; delete it, and the same "
        "command does the job again"
    )
