"""One sample from its first attempt to its row, across restarts of the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tessy.core.errors import FailureReason, SampleFailed
from tessy.core.records import Author, Failure, Key, Problem, Trajectory
from tessy.runtime.progress import ProgressState
from tessy.runtime.runner import JobResult
from tessy.storage.journal import InFlight, Journal
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.resume import Piece, SampleState, dump_piece, load_state
from tessy.synthesis.strategies.base import MakeSample
from tessy.synthesis.token_counts import LONG, UsageMeter

# Another draw can avoid these; a prompt that is too long or refused stays so.
RETRIED: frozenset[FailureReason] = frozenset(
    {
        "repetition",
        "eos_in_thinking",
        "empty_thinking",
        "empty_answer",
        "control_in_answer",
        "no_fitting_style",
    }
)


@dataclass(frozen=True, slots=True)
class SampleJob:
    """A requested sample, with the prompts rendered so far, each in its model's tokens."""

    problem: Problem
    sample: int
    prompts: dict[Author, tuple[int, ...]] = field(default_factory=dict, compare=False)

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
    """Generates samples, each in up to ``attempts`` attempts.

    Attributes:
        checkpoint: Raises to interrupt a sample at a safe place.
        in_flight: Samples that an earlier process left in flight, by key.
        earlier: Attempts of keys that failed before and are tried again.
    """

    context: SynthesisContext
    strategy: MakeSample
    journal: Journal
    progress: ProgressState
    attempts: int
    checkpoint: Callable[[], None]
    in_flight: dict[Key, InFlight] = field(default_factory=dict)
    earlier: Mapping[Key, int] = field(default_factory=dict)

    def written(self, job: SampleJob, result: JobResult) -> None:
        """Forget the progress of a sample whose row is durable."""
        self.journal.forget(job.key)
        if result.failure is None:
            self.progress.finished(job.name)
        else:
            self.progress.failed(job.name, result.failure.reason)

    async def make(self, job: SampleJob) -> JobResult:
        """Generate the sample; return its row, and the tokens of the longest of its texts."""
        earlier = self.earlier.get(job.key, 0)
        saved, pieces = self._resume(job.key)
        meter = UsageMeter()
        number = saved.attempt if saved else earlier + self.journal.bump_attempt(job.key)
        name = job.name
        self.progress.started(name)
        try:
            while True:
                attempt = self._attempt(job, number, saved, meter, pieces)
                saved = None  # its texts are as large as those of the sample
                try:
                    row = await self.strategy(attempt)
                except SampleFailed as failure:
                    if failure.reason in RETRIED and number - earlier < self.attempts:
                        self.journal.clear(job.key)
                        number = earlier + self.journal.bump_attempt(job.key)
                        attempt.discard_text()
                        pieces, meter = 0, attempt.meter
                        continue
                    failed = attempt.failure(failure.reason, failure.detail)
                    size = _size(attempt, failed) if failure.reason in LONG else None
                    return JobResult(failure=failed, tokens=size)
                return JobResult(row=row, tokens=_size(attempt, row))
        finally:
            for backend in self.context.backends.values():
                backend.engine.release(name)
            for predictor in self.context.predictors.values():
                predictor.release(name)

    def _resume(self, key: Key) -> tuple[SampleState | None, int]:
        """Return the state that an earlier process left, and the number of its pieces."""
        in_flight = self.in_flight.pop(key, None)
        saved = load_state(in_flight)
        if in_flight is None or saved is None:
            return None, 0
        state, pieces = saved
        if pieces < len(in_flight.pieces):
            self.journal.truncate(key, pieces)
        return state, pieces

    def _attempt(
        self,
        job: SampleJob,
        number: int,
        saved: SampleState | None,
        meter: UsageMeter,
        count: int,
    ) -> SampleAttempt:
        def save(pieces: Sequence[Piece], state: SampleState) -> None:
            nonlocal count
            for piece in pieces:
                self.journal.append(job.key, dump_piece(piece))
            count += len(pieces)
            self.journal.set_state(job.key, partial(state.dump, count))

        return SampleAttempt(
            context=self.context,
            problem=job.problem,
            sample=job.sample,
            prompts=job.prompts,
            number=number,
            save=save,
            checkpoint=self.checkpoint,
            progress=self.progress,
            meter=meter,
            saved=saved,
        )


def _size(attempt: SampleAttempt, row: Trajectory | Failure) -> int:
    tokens = row.tokens
    return max(attempt.longest_tokens, tokens.student + tokens.teacher + tokens.answer)
