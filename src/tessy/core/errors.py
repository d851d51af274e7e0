"""Exceptions raised by tessy.

A message states what is wrong, the value, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tessy.core.formatting import counted

EXIT_INTERRUPTED = 130  # of a command that Ctrl-C ended: 128 + SIGINT, as a shell reports it


class TessyError(Exception):
    """Base class of all exceptions raised by tessy."""


class InputError(TessyError):
    """Invalid input, found before any work: an option, a file, a model or a run directory."""


class ConfigError(InputError):
    """An invalid option or TOML key, or an invalid combination of them."""


class DeviceMemoryError(ConfigError):
    """The memory of a device is too small. Only the process of that device raises it."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """A defect of one row of an input file."""

    file: str
    line: int  # 1-based; the row number in formats without lines
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


class BadRowsError(InputError):
    """Invalid rows of an input file, all in ``faults``; ``remedy`` ends the message."""

    def __init__(
        self,
        faults: Sequence[RowFault],
        remedy: str = "fix them or pass --skip-bad-rows to skip them",
    ) -> None:
        self.faults = tuple(faults)
        shown = "\n".join(f"  {fault}" for fault in self.faults[:20])
        more = f"\n  … and {len(self.faults) - 20} more" if len(self.faults) > 20 else ""
        super().__init__(f"{counted(len(self.faults), 'bad row')}; {remedy}:\n{shown}{more}")


class ModelError(InputError):
    """An unusable tokenizer, chat template or checkpoint."""


class RunError(InputError):
    """A run directory that is locked by another process or was created with other options."""


class EngineError(TessyError):
    """A failure of a model server or of the in-process model.

    ``status`` is that of the HTTP reply, ``retry_after_seconds`` its ``Retry-After``; None if the
    failure has no reply or no such header.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class EngineUnavailable(EngineError):
    """A temporary failure (no connection, 429, 5xx, a stall); the request is retried."""


class EngineRefused(EngineError):
    """A permanent failure of one request (400, 413, 422): the sample fails, the run continues."""


class EngineMisconfigured(EngineError):
    """A permanent failure of all requests (401, 403, 404, wrong model): the run stops."""


class StorageError(TessyError):
    """A failed write to the run directory (disk full, lost mount); the run stops, rows are kept."""


FailureReason = Literal[
    "budget",  # token limit of thinking or answer reached, or context full
    "repetition",  # looping text
    "eos_in_thinking",  # two consecutive spans ended with a control id
    "empty_thinking",
    "empty_answer",
    "control_in_answer",  # a control id before the end of the answer
    "prompt_too_long",  # the prompt leaves too few tokens for thinking and answer
    "no_score",  # the teacher's assessment of a candidate contains no score
    "no_capability",  # the rule found nothing to keep in the trace
    "no_fitting_style",  # no candidate fits what follows it in the trace
    "capability_lost",  # the thinking lacks words of the trace that must be kept
    "refused",  # the server refused the request
    "server_error",  # the server repeatedly returned unusable responses
]

AnnotationFailureReason = Literal[
    "not_json",  # the reply is not a JSON array of strings
    "not_found",  # a listed string is missing from the segment or out of order
    "truncated",  # the reply reached its token limit
    "refused",  # the server refused the request
    "server_error",  # the server repeatedly returned unusable responses
]

_LABELS: Mapping[str, str] = {
    "budget": "budget exceeded",
    "repetition": "repetition",
    "eos_in_thinking": "ended in the thinking",
    "empty_thinking": "no thinking",
    "empty_answer": "no answer",
    "control_in_answer": "markup in the answer",
    "prompt_too_long": "prompt too long",
    "no_score": "not scored",
    "no_capability": "no capability in the trace",
    "no_fitting_style": "no fitting style",
    "capability_lost": "capability lost",
    "refused": "refused by the server",
    "server_error": "server error",
    "not_json": "reply is not JSON",
    "not_found": "quote not in the segment",
    "truncated": "reply cut off",
}


def reason_label(reason: str) -> str:
    """Return a failure reason as people read it; the code of an unknown one without underscores."""
    return _LABELS.get(reason, reason.replace("_", " "))


def reason_labels(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts by reason as counts by label, in the same order."""
    labels: dict[str, int] = {}
    for reason, count in counts.items():
        label = reason_label(reason)
        labels[label] = labels.get(label, 0) + count
    return labels


def cause_of(error: BaseException) -> str:
    """Return an error of another library as a part of a sentence: one line, no full stop."""
    return " ".join(str(error).split()).rstrip(".")


class SampleFailed(TessyError):
    """A sample that cannot be finished; failures.jsonl records ``reason`` and ``detail``."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: FailureReason = reason
        self.detail = detail
