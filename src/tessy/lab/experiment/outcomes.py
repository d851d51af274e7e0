"""Errors that end a job without scores."""

from __future__ import annotations

from tessy.core.errors import EXIT_INTERRUPTED, TessyError


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
