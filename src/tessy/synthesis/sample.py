"""One sample from its first attempt to its row, across restarts of the program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tessy.core.errors import FailureReason, SampleFailed
from tessy.core.records import Failure, Key, Problem, Trajectory
from tessy.runtime.progress import ProgressState
from tessy.storage.journal import InFlight, Journal
from tessy.storage.run_dir import Run
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.strategies.base import MakeSample
from tessy.synthesis.usage import UsageMeter

# Another draw can avoid these; a prompt that is too long or refused stays so.
RETRIED: frozenset[FailureReason] = frozenset(
    {"repetition", "eos_in_thinking", "empty_thinking", "empty_answer", "control_in_answer"}
)

# These reached a limit; other failures say nothing about the length of samples.
LONG: frozenset[FailureReason] = frozenset({"budget", "repetition"})


_COMPACT = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class SampleJob:
    """A sample to make."""

    problem: Problem
    sample: int

    @property
    def key(self) -> Key:
        """Its key in the run."""
        return self.problem.id, self.sample

    @property
    def name(self) -> str:
        """Its name for engines, predictors and messages."""
        return f"{self.problem.id}/{self.sample}"


@dataclass
class SampleRunner:
    """Makes samples and writes their rows.

    Attributes:
        context: Shared by all samples.
        strategy: Makes a sample.
        run: Receives the rows.
        journal: Stores samples in flight.
        progress: Receives events.
        attempts: Maximum attempts before a sample counts as failed.
        checkpoint: Raises to interrupt a sample at a safe place.
        in_flight: Samples that an earlier process left in flight, by key.
        earlier: Attempts of keys that failed before and are tried again.
    """

    context: SynthesisContext
    strategy: MakeSample
    run: Run
    journal: Journal
    progress: ProgressState
    attempts: int
    checkpoint: Callable[[], None]
    in_flight: dict[Key, InFlight] = field(default_factory=dict)
    earlier: Mapping[Key, int] = field(default_factory=dict)

    async def make(self, job: SampleJob) -> int | None:
        """Make the sample and write its row.

        Returns:
            Tokens of the longest of its texts (thinking and answer), from which the admission
            estimates the size of the next samples. None if it says nothing about them.

        Raises:
            EngineError: The servers are gone or misconfigured; the sample stays in the journal.
        """
        earlier = self.earlier.get(job.key, 0)
        saved, meter = self._resume(job.key)
        number = saved[0]["attempt"] if saved else earlier + self.journal.bump_attempt(job.key)
        name = job.name
        self.progress.started(name)
        try:
            while True:
                attempt = self._attempt(job, number, saved, meter)
                try:
                    row = await self.strategy(attempt)
                except SampleFailed as failure:
                    if failure.reason in RETRIED and number - earlier < self.attempts:
                        self.journal.clear(job.key)
                        number = earlier + self.journal.bump_attempt(job.key)
                        attempt.leave()
                        saved, meter = None, attempt.meter
                        continue
                    failed = attempt.failure(failure.reason, failure.detail)
                    await self.run.append_failure(failed)
                    self.journal.forget(job.key)
                    self.progress.failed(name, failure.reason)
                    return _size(attempt, failed) if failure.reason in LONG else None
                await self.run.append_trajectory(row)
                self.journal.forget(job.key)
                self.progress.finished(name)
                return _size(attempt, row)
        finally:
            for backend in self.context.backends.values():
                backend.engine.release(name)
            for predictor in self.context.predictors.values():
                predictor.release(name)

    def _resume(self, key: Key) -> tuple[tuple[Mapping[str, Any], list[bytes]] | None, UsageMeter]:
        left = self.in_flight.pop(key, None)
        if left is None or left.state is None:
            return None, UsageMeter()
        state = json.loads(left.state)
        pieces = left.pieces[: state["pieces"]]
        if len(pieces) < len(left.pieces):
            # Texts newer than the state belong to a request that will be sent again.
            self.journal.truncate(key, len(pieces))
        return (state, pieces), UsageMeter.from_json(state["meter"])

    def _attempt(
        self,
        job: SampleJob,
        number: int,
        saved: tuple[Mapping[str, Any], list[bytes]] | None,
        meter: UsageMeter,
    ) -> SampleAttempt:
        count = len(saved[1]) if saved else 0

        def save(pieces: list[bytes], state: Mapping[str, Any]) -> None:
            nonlocal count
            for piece in pieces:
                self.journal.append(job.key, piece)
            count += len(pieces)
            whole = {**state, "pieces": count}
            self.journal.set_state(job.key, lambda: _COMPACT.encode(whole).encode("ascii"))

        return SampleAttempt(
            context=self.context,
            problem=job.problem,
            sample=job.sample,
            number=number,
            save=save,
            checkpoint=self.checkpoint,
            observer=self.progress,
            meter=meter,
            saved=saved,
        )


def _size(attempt: SampleAttempt, row: Trajectory | Failure) -> int:
    tokens = row.tokens
    return max(attempt.longest_tokens, tokens.student + tokens.teacher + tokens.answer)
