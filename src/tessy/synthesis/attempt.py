"""One attempt at one sample: its models, its cost, and the state that is saved."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Protocol

from tessy.boundary.base import Prediction
from tessy.core.errors import FailureReason
from tessy.core.records import (
    Author,
    Failure,
    Message,
    Problem,
    StudentIds,
    Trajectory,
    pack_ids,
)
from tessy.core.seeds import derive_seed
from tessy.inference.base import Chunk, ChunkSink, Request
from tessy.synthesis.actions import Done, Generate, PredictNext
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.prefetch import HandoverPrefetch
from tessy.synthesis.resume import (
    CooperationState,
    FinishedPart,
    GenerationState,
    Piece,
    SampleState,
)
from tessy.synthesis.shared_thinking import GeneratedResponse, ThinkingResult
from tessy.synthesis.single_model import SingleModelGeneration
from tessy.synthesis.span_driver import SpanDriver
from tessy.synthesis.token_counts import UsageMeter, by_author


class TokenObserver(Protocol):
    """Receives token counts while a sample is made."""

    def kept(self, author: Author, tokens: int) -> None:
        """Called when tokens become part of the sample."""
        ...

    def drafted(self, author: Author, tokens: int) -> None:
        """Called when tokens were generated, kept or not."""
        ...


@dataclass
class SampleAttempt:
    """One attempt at one sample.

    Attributes:
        context: Shared by all samples.
        problem: The problem.
        sample: Index of the sample of this problem.
        number: 1 for the first attempt; part of every seed.
        save: Stores new pieces and the state in the journal; called before every request.
        checkpoint: Called wherever the sample can be interrupted safely; raises to interrupt it.
        observer: Receives token counts.
        meter: Usage so far.
        saved: State that an earlier process left; split up when the attempt is created.
        prompts: The problem in the tokens and format of each model, as far as it was rendered.
        clock: Monotonic clock, in seconds.
        thinker: Writes the thinking.
        answer: Writes the answer.
        shown: The part that a failure row shows instead of the current text.
        extras: Additional fields of the row.
        longest_tokens: Tokens of the longest of several texts, without the problem.
    """

    context: SynthesisContext
    problem: Problem
    sample: int
    number: int
    save: Callable[[Sequence[Piece], SampleState], None]
    checkpoint: Callable[[], None]
    observer: TokenObserver
    meter: UsageMeter = field(default_factory=UsageMeter)
    saved: InitVar[SampleState | None] = None
    prompts: dict[Author, tuple[int, ...]] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    thinker: Cooperation | SingleModelGeneration | None = None
    answer: SingleModelGeneration | None = None
    shown: GeneratedResponse | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    longest_tokens: int = 0
    _saved_answer: GenerationState | None = field(default=None, init=False)
    _saved_thinking: CooperationState | GenerationState | None = field(default=None, init=False)
    _saved_parts: deque[FinishedPart] = field(default_factory=deque, init=False)

    def __post_init__(self, saved: SampleState | None) -> None:
        """Resume from ``saved``."""
        if saved is not None:
            self.meter = saved.usage
            self._saved_parts.extend(saved.parts)
            self._saved_thinking, self._saved_answer = saved.thinking, saved.answer

    @property
    def key(self) -> str:
        """Name of the sample for engines and predictors."""
        return f"{self.problem.id}/{self.sample}"

    def seed(self, *place: str | int) -> int:
        """Return the seed of one draw of this attempt, the same after a resume."""
        return derive_seed(self.context.seed, self.problem.id, self.sample, self.number, *place)

    # ------------------------------------------------------------------ writing

    async def think(self, cooperation: Cooperation) -> Done:
        """Drive the cooperation until the thinking has ended; a saved one is continued.

        Raises:
            SampleFailed: The sample cannot be finished.
        """
        self.thinker = cooperation
        self._restore_cooperation(cooperation)
        kept = dict(cooperation.thinking.kept_tokens)
        predicted_next = False
        async with HandoverPrefetch(self._stream, self._predict, self._on_discarded) as prefetch:
            while True:
                if not predicted_next:  # after a prediction the saved state still holds
                    self._save(cooperation.thinking.take_texts())
                self.checkpoint()
                action = cooperation.next()
                if isinstance(action, Done):
                    return action
                predicted_next = isinstance(action, PredictNext)
                if isinstance(action, PredictNext):
                    cooperation.predicted_next(await self._timed(prefetch.prediction_for(action)))
                    continue
                await self._span(cooperation, action, prefetch)
                for author, tokens in cooperation.thinking.kept_tokens.items():
                    self.observer.kept(author, tokens - kept[author])
                kept = dict(cooperation.thinking.kept_tokens)

    # Functions of their own, so that no variable holds the saved texts for the rest of the sample.

    def _restore_cooperation(self, cooperation: Cooperation) -> None:
        saved, self._saved_thinking = self._saved_thinking, None
        if saved is not None:
            assert isinstance(saved, CooperationState)  # the strategy of a run never changes
            cooperation.restore(saved)

    def _restore_generation(self, generation: SingleModelGeneration) -> None:
        if generation.what == "thinking":
            saved, self._saved_thinking = self._saved_thinking, None
        else:
            saved, self._saved_answer = self._saved_answer, None
        if saved is not None:
            assert isinstance(saved, GenerationState)  # the strategy of a run never changes
            generation.restore(saved)

    async def _span(
        self, cooperation: Cooperation, generate: Generate, prefetch: HandoverPrefetch
    ) -> None:
        started = self.clock()
        self.meter.requests[generate.author] += 1
        span = SpanDriver(
            cooperation, self.context.predictors[generate.author], prefetch, self.clock
        )
        try:
            await span.run(generate)
        finally:
            self._count(generate.author, span.drafted)
            self.meter.seconds["predictor"] += span.predictor_seconds
            self.meter.seconds[generate.author] += self.clock() - started - span.predictor_seconds
        cooperation.closed()

    async def _stream(self, generate: Generate, sink: ChunkSink) -> None:
        await self.context.backends[generate.author].engine.stream(self._request(generate), sink)

    def _predict(self, predict_next: PredictNext) -> Awaitable[Prediction]:
        return self.context.predictors[predict_next.author].predict(predict_next.request)

    def _on_discarded(self, generate: Generate, drafted: int) -> None:
        self.meter.requests[generate.author] += 1
        self._count(generate.author, drafted)

    def _count(self, author: Author, drafted: int) -> None:
        self.meter.drafted[author] += drafted
        self.observer.drafted(author, drafted)

    async def _timed(self, prediction: Awaitable[Prediction]) -> Prediction:
        started = self.clock()
        try:
            return await prediction
        finally:
            self.meter.seconds["predictor"] += self.clock() - started

    async def write(self, generation: SingleModelGeneration) -> None:
        """Let one model write the thinking, or the answer, alone; a saved text is continued.

        Raises:
            SampleFailed: The sample cannot be finished.
        """
        thinking = generation.what == "thinking"
        if thinking:
            self.thinker = generation
        else:
            self.answer = generation
        self._restore_generation(generation)
        saved = len(generation.ids)
        while True:
            new = generation.ids[saved:] if thinking else []
            saved += len(new)
            self._save([tuple(new)] if new else [])
            generate = generation.next()
            if generate is None:
                return  # what is whole needs no more requests, so it is not left in flight
            self.checkpoint()
            await self._continue(generation, generate)

    async def _continue(self, generation: SingleModelGeneration, generate: Generate) -> None:
        started = self.clock()
        response = len(generation.ids)
        drafted = 0
        self.meter.requests[generate.author] += 1
        failed: Exception | None = None

        def take(chunk: Chunk) -> None:
            nonlocal drafted, failed
            drafted += len(chunk.ids)
            try:
                generation.receive(chunk)
            except Exception as error:
                failed = error
            # A reply that has ended by itself leaves its connection to the next request.
            if failed is not None or (generation.done and chunk.finish is None):
                sink.close()

        sink = ChunkSink(take)
        try:
            await self._stream(generate, sink)
            if failed is not None:
                raise failed
        finally:
            spent = self.clock() - started
            self.observer.kept(generation.author, len(generation.ids) - response)
            thinking = generation.what == "thinking"
            part = generate.author if thinking or generation.aside else "answer"
            self.meter.seconds[part] += spent
            if thinking:
                self._count(generate.author, drafted)
            else:  # counted with the row, or by `leave`
                self.observer.drafted(generate.author, drafted)

    def _request(self, generate: Generate) -> Request:
        backend = self.context.backends[generate.author]
        return Request(
            self.key,
            generate.prompt,
            backend.sampling,
            generate.max_tokens,
            generate.stop_ids,
            generate.seed,
        )

    def _save(self, pieces: Sequence[Piece]) -> None:
        """Save ``pieces``, the thinking since the last call, and the state.

        The thinking is saved in pieces because it grows long; an answer is saved whole.
        """
        assert self.thinker is not None  # a sample is saved from its thinking on
        answer = self._saved_answer if self.answer is None else self.answer.state()
        self.save(pieces, self._state(self.thinker.state(), answer))

    def _state(
        self,
        thinking: CooperationState | GenerationState | None = None,
        answer: GenerationState | None = None,
    ) -> SampleState:
        return SampleState(self.number, self.meter.copy(), thinking=thinking, answer=answer)

    async def part(self, make: Callable[[], Awaitable[FinishedPart]]) -> FinishedPart:
        """Return one part of a sample that consists of several: the saved one, or a new one.

        A finished part is saved as a whole. The parts of a sample are made in the same order every
        time.
        """
        if self._saved_parts:
            return self._saved_parts.popleft()
        made = await make()
        self.leave()
        self.save([made], self._state())
        return made

    def leave(self) -> None:
        """Drop the current text; its answer counts as generated and not kept."""
        if self.answer is not None:
            self.meter.drafted[self.answer.author] += len(self.answer.ids)
        self.thinker = self.answer = self._saved_answer = self._saved_thinking = None

    # ------------------------------------------------------------------ rows

    @property
    def thinking_result(self) -> ThinkingResult:
        """The thinking so far."""
        thinker = self.thinker
        if thinker is None:
            return ThinkingResult()
        if isinstance(thinker, SingleModelGeneration):
            return thinker.thinking_result(self.context.format.codec)
        text = thinker.thinking
        return ThinkingResult(
            text.text,
            text.spans,
            text.student_ids,
            text.kept_tokens,
            thinker.stats.forced,
            thinker.stats.mid_word_handovers,
        )

    def draft(self) -> GeneratedResponse:
        """Return the current response, complete or not."""
        answer: tuple[str, list[int]] = ("", [])
        by = self.context.answering
        if self.answer is not None:
            answer, by = self.answer.text_in(self.context.format.codec), self.answer.author
        return GeneratedResponse(self.thinking_result, *answer, by)

    def trajectory(self, ended_by: Author, response: GeneratedResponse | None = None) -> Trajectory:
        """Return the row of a finished sample.

        Args:
            ended_by: Author whose stop id ended the thinking.
            response: The response to keep; None: the current one.
        """
        context = self.context
        common = self._common(response)
        response = response or self.draft()
        content = context.format.assistant(response.thinking.text, response.answer)
        ids = None
        # Where the rows' model does not generate, all of the text is encoded.
        native = context.home not in context.backends or context.backends[context.home].native_ids
        if context.keep_ids and context.home == "student" and native:
            ids = StudentIds(
                thinking=pack_ids(response.thinking.ids), answer=pack_ids(response.answer_ids)
            )
        common["messages"] = (*self.problem.messages, Message(role="assistant", content=content))
        return Trajectory(**common, ended_by=ended_by, student_ids=ids)

    def failure(self, reason: FailureReason, detail: str) -> Failure:
        """Return the row of a sample that could not be finished, with its text so far."""
        return Failure(**self._common(self.shown), reason=reason, detail=detail)

    def _common(self, part: GeneratedResponse | None) -> dict[str, Any]:
        """Return the fields of both kinds of rows for ``part``; None: for the current response."""
        response = part or self.draft()
        thinking_result = response.thinking
        return {
            "id": self.problem.id,
            "sample": self.sample,
            "strategy": self.context.strategy,
            "messages": self.problem.messages,
            "thinking": thinking_result.text,
            "answer": response.answer,
            "answer_by": response.answer_by,
            "spans": thinking_result.spans,
            "tokens": self.meter.token_counts(response, counted=part is not None),
            "forced": by_author(thinking_result.forced),
            "glued": thinking_result.mid_word_handovers,
            "attempts": self.number,
            "seconds": round(sum(self.meter.seconds.values()), 4),
            "cost": self.meter.cost(),
            "problem": self.problem.extra,
            **self.extras,
        }
