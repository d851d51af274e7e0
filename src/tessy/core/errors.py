"""The errors of tessy, as one tree.

    TessyError
    ├── InputError                what the user gave is wrong; nothing was started
    │   ├── ConfigError           an option or a TOML key
    │   ├── BadRowsError          rows of an input file, each with file, line and field
    │   ├── ModelError            a tokenizer, template or checkpoint we cannot use
    │   └── RunError              a run directory: locked, or made with other options
    ├── EngineError               a model server (or the in-process model)
    │   ├── EngineUnavailable     for now: refused connection, 429, 5xx, a stall; worth another try
    │   ├── EngineRefused         this one request: 400, 413, 422; the sample fails, the run
    continues │   └── EngineMisconfigured   every request: 401, 403, 404, wrong model; the run stops
    ├── StorageError              the run directory cannot be written: disk full; the run stops
    └── SampleFailed              one sample cannot be finished; becomes a row in failures.jsonl

A message says what was wrong, the value, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


class TessyError(Exception):
    """The root: ``except TessyError`` catches everything tessy raises on purpose."""


class InputError(TessyError):
    """What the user gave is wrong; nothing was started and nothing was lost."""


class ConfigError(InputError):
    """An option, a TOML key or their combination is not usable."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """One thing wrong with one row of an input file."""

    file: str
    line: int  # 1-based; the row number for formats without lines
    field: str
    message: str

    def __str__(self) -> str:
        """Format as ``file:line: field: message``."""
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


class BadRowsError(InputError):
    """Rows of an input file are unusable; carries every fault found, not only the first."""

    def __init__(
        self,
        faults: Sequence[RowFault],
        remedy: str = "fix them or pass --skip-bad-rows to skip them",
    ) -> None:
        """Keep ``faults`` and show the first twenty of them; ``remedy`` says what to do."""
        self.faults = tuple(faults)
        shown = "\n".join(f"  {fault}" for fault in self.faults[:20])
        more = f"\n  … and {len(self.faults) - 20} more" if len(self.faults) > 20 else ""
        super().__init__(f"{len(self.faults)} bad row(s); {remedy}:\n{shown}{more}")


class ModelError(InputError):
    """A tokenizer, chat template or checkpoint that tessy cannot use as it is."""


class RunError(InputError):
    """A run directory cannot be used: another process holds it, or it was made differently."""


class EngineError(TessyError):
    """Something went wrong between us and a model."""


class EngineUnavailable(EngineError):
    """The server cannot serve just now; the same request may work later or elsewhere.

    Attributes:
        retry_after_seconds: How long the server asked to be left alone; None if it did not say.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        """Keep the server's wish apart from the sentence that explains it."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineRefused(EngineError):
    """The server will not serve this request, however often it is asked."""


class EngineMisconfigured(EngineError):
    """No request of this run can work: wrong key, wrong path or wrong model name."""


class StorageError(TessyError):
    """The run directory cannot be written (full disk, lost mount); what is durable stays."""


FailureReason = Literal[
    "budget",  # thinking or answer reached its token limit, or a model's context is full
    "repetition",  # the text loops
    "eos_in_thinking",  # control ids ended two spans in a row
    "empty_thinking",
    "empty_answer",
    "control_in_answer",  # a control id that does not end the answer
    "prompt_too_long",  # the question leaves no room for thinking and answer
    "no_score",  # the teacher's judgement of a candidate ends in no score
    "refused",  # the server refused the request
    "server_error",  # the server kept answering with something unusable
]

AnnotationFailureReason = Literal[
    "not_json",  # the reply is no JSON array of strings
    "not_found",  # a string it lists is not in the segment, or not after the one before it
    "truncated",  # the reply reached its token limit
    "refused",  # the server refused the request
    "server_error",  # the server kept answering with something unusable
]


class SampleFailed(TessyError):
    """A sample cannot be finished.

    Attributes:
        reason: One of :data:`FailureReason`.
        detail: A sentence with the values that led to it.
    """

    def __init__(self, reason: FailureReason, detail: str) -> None:
        """Keep the reason apart from the sentence that explains it."""
        super().__init__(f"{reason}: {detail}")
        self.reason: FailureReason = reason
        self.detail = detail
