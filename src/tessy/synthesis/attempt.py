"""One attempt at one sample: its models, its cost, and the state that is saved."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

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
from tessy.core.tasks import gather_or_cancel
from tessy.inference.base import Chunk, ChunkSink, Request
from tessy.runtime.progress import ProgressState
from tessy.runtime.summary import by_author
from tessy.synthesis.actions import Done, Generate, PredictNext
from tessy.synthesis.context import SynthesisContext
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.prefetch import HandoverPrefetch
from tessy.synthesis.restyling.thinking import RestyledThinking
from tessy.synthesis.resume import (
    CooperationState,
    FinishedPart,
    GenerationState,
    Piece,
    SampleState,
)
from tessy.synthesis.shared_thinking import GeneratedResponse, ThinkingResult
from tessy.synthesis.single_model import SingleModelGeneration, Text
from tessy.synthesis.span_driver import SpanDriver, SpanMachine
from tessy.synthesis.token_counts import UsageMeter


@dataclass
class SampleAttempt:
    """One attempt at one sample.

    Attributes:
        sample: Index of the sample of this problem.
        number: 1 for the first attempt; part of every seed.
        save: Stores new pieces and the state in the journal; called before every request.
        checkpoint: Called wherever the sample can be interrupted safely; raises to interrupt it.
        prompts: The problem in the tokens and format of each model, as far as it was rendered.
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
    progress: ProgressState
    meter: UsageMeter = field(default_factory=UsageMeter)
    saved: InitVar[SampleState | None] = None
    prompts: dict[Author, tuple[int, ...]] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    thinker: Cooperation | SingleModelGeneration | RestyledThinking | None = None
    answer: SingleModelGeneration | None = None
    shown: GeneratedResponse | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    longest_tokens: int = 0
    _problem_digest: str = field(init=False)
    _saved: dict[Text, Any] = field(default_factory=dict, init=False)
    _saved_parts: deque[FinishedPart] = field(default_factory=deque, init=False)

    def __post_init__(self, saved: SampleState | None) -> None:
        self._problem_digest = self.problem.digest
        if saved is not None:
            self.meter = saved.usage
            self._saved_parts.extend(saved.parts)
            self._saved = {"thinking": saved.thinking, "answer": saved.answer}

    @property
    def key(self) -> str:
        """Name of the sample for engines and predictors."""
        return f"{self.problem.id}/{self.sample}"

    def seed(self, *place: str | int) -> int:
        """Return the seed of one draw of this attempt, the same after a resume."""
        return derive_seed(self.context.seed, self.problem.id, self.sample, self.number, *place)

    async def think(self, cooperation: Cooperation) -> Done:
        """Drive the cooperation until the thinking has ended; a saved one is continued."""
        self.thinker = cooperation
        self._restore(cooperation, "thinking")
        kept = dict(cooperation.thinking.kept_tokens)
        predicted_next = False
        async with HandoverPrefetch(self._stream, self._predict, self._on_discarded) as prefetch:
            while True:
                if not predicted_next:  # a prediction does not change the saved state
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
                    self.progress.kept(author, tokens - kept[author])
                kept = dict(cooperation.thinking.kept_tokens)

    def _restore(self, writer: Cooperation | SingleModelGeneration, what: Text) -> None:
        # A function of its own, so that no variable holds the saved text for long.
        saved = self._saved.pop(what, None)
        if saved is not None:
            writer.restore(saved)

    async def _span(
        self, cooperation: Cooperation, generate: Generate, prefetch: HandoverPrefetch
    ) -> None:
        started = self.clock()
        span = self._driver(cooperation, generate, prefetch)
        try:
            await self._drive(span, generate)
        finally:
            self.meter.seconds["predictor"] += span.predictor_seconds
            self.meter.seconds[generate.author] += self.clock() - started - span.predictor_seconds
        cooperation.closed()

    def _driver(
        self, machine: SpanMachine, generate: Generate, prefetch: HandoverPrefetch
    ) -> SpanDriver:
        predictor = self.context.predictors[generate.author]
        return SpanDriver(machine, predictor, prefetch, self.clock)

    async def _drive(self, span: SpanDriver, generate: Generate) -> None:
        """Run the request of a span and count it, but not its time."""
        self.meter.requests[generate.author] += 1
        try:
            await span.run(generate)
        finally:
            self._count(generate.author, span.drafted, span.unseen)

    async def draw(self, drafts: Sequence[tuple[SpanMachine, Generate]]) -> None:
        """Run the requests of several drafts of one model at the same time."""
        started = self.clock()
        author = drafts[0][1].author
        try:
            await gather_or_cancel(self._draw(machine, generate) for machine, generate in drafts)
        finally:
            self.meter.seconds[author] += self.clock() - started

    async def _draw(self, machine: SpanMachine, generate: Generate) -> None:
        prefetch = HandoverPrefetch(self._stream, self._predict, self._on_discarded)
        await self._drive(self._driver(machine, generate, prefetch), generate)

    async def score(self, texts: Sequence[tuple[Sequence[int], int]]) -> list[float]:
        """Return the student's log-likelihood (nats) of ``ids[start:]`` of each of ``texts``."""
        started = self.clock()
        backend = self.context.backends["student"]
        self.meter.requests["student"] += len(texts)
        self._count("student", 0, len(texts) * backend.score_tokens)
        try:
            scores = await gather_or_cancel(
                backend.engine.score(self.key, ids, start, top=0) for ids, start in texts
            )
        finally:
            self.meter.seconds["scoring"] += self.clock() - started
        return [math.fsum(token.logprob for token in tokens) for tokens in scores]

    async def _stream(self, generate: Generate, sink: ChunkSink) -> None:
        backend = self.context.backends[generate.author]
        request = Request(
            self.key,
            generate.prompt,
            backend.sampling,
            generate.max_tokens,
            generate.stop_ids,
            generate.seed,
        )
        await backend.engine.stream(request, sink)

    def _predict(self, predict_next: PredictNext) -> Awaitable[Prediction]:
        return self.context.predictors[predict_next.author].predict(predict_next.request)

    def _on_discarded(self, generate: Generate, drafted: int, unseen: int) -> None:
        self.meter.requests[generate.author] += 1
        self._count(generate.author, drafted, unseen)

    def _count(self, author: Author, drafted: int, unseen: int) -> None:
        self.meter.drafted[author] += drafted
        self.meter.unseen[author] += unseen
        self.progress.drafted(author, drafted)
        self.progress.unseen(author, unseen)

    async def _timed(self, prediction: Awaitable[Prediction]) -> Prediction:
        started = self.clock()
        try:
            return await prediction
        finally:
            self.meter.seconds["predictor"] += self.clock() - started

    async def write(self, generation: SingleModelGeneration) -> None:
        """Let one model write the thinking, or the answer, alone; a saved text is continued."""
        thinking = generation.what == "thinking"
        if thinking:
            self.thinker = generation
        else:
            self.answer = generation
        self._restore(generation, generation.what)
        saved = len(generation.ids)
        while True:
            new = generation.ids[saved:] if thinking else []
            saved += len(new)
            self._save([tuple(new)] if new else [])
            generate = generation.next()
            if generate is None:
                return  # before the checkpoint: a complete text is not left in flight
            self.checkpoint()
            await self._continue(generation, generate)

    async def _continue(self, generation: SingleModelGeneration, generate: Generate) -> None:
        started = self.clock()
        response = len(generation.ids)
        drafted = stops = 0
        self.meter.requests[generate.author] += 1
        failed: Exception | None = None

        def take(chunk: Chunk) -> None:
            nonlocal drafted, stops, failed
            drafted += len(chunk.ids)
            stops += chunk.finish == "stop"
            try:
                generation.receive(chunk)
            except Exception as error:
                failed = error
            # The connection of a reply that has ended by itself can be used again.
            if failed is not None or (generation.done and chunk.finish is None):
                sink.close()

        sink = ChunkSink(take)
        try:
            await self._stream(generate, sink)
            if failed is not None:
                raise failed
        finally:
            spent = self.clock() - started
            self.progress.kept(generation.author, len(generation.ids) - response)
            thinking = generation.what == "thinking"
            part = generate.author if thinking or generation.aside else "answer"
            self.meter.seconds[part] += spent
            # The row, or `discard_text`, counts the answer.
            counted = drafted if thinking else 0
            self.progress.drafted(generate.author, drafted - counted)
            self._count(generate.author, counted, stops + sink.unseen)

    def _save(self, pieces: Sequence[Piece]) -> None:
        """Save ``pieces``, the thinking since the last call, and the state with the answer."""
        assert self.thinker is not None  # a sample is saved from its thinking on
        answer = self._saved.get("answer") if self.answer is None else self.answer.state()
        thinking = self.thinker.state()
        self.save(pieces, self._state(thinking, answer))

    def _state(
        self,
        thinking: CooperationState | GenerationState | None = None,
        answer: GenerationState | None = None,
    ) -> SampleState:
        meter = replace(self.meter)
        return SampleState(self.number, meter, (), thinking, answer, self._problem_digest)

    def begin_parts(self) -> None:
        """Save that the attempt has begun: resumed before its first part, it keeps its seeds."""
        if not self._saved_parts:
            self.save([], self._state())

    @property
    def has_saved_part(self) -> bool:
        """Whether :meth:`part` returns a saved part next."""
        return bool(self._saved_parts)

    async def part(self, make: Callable[[], Awaitable[FinishedPart]]) -> FinishedPart:
        """Return the next part of a sample of several parts: the saved one, or a new one, saved.

        The order of the parts must always be the same.
        """
        if self._saved_parts:
            return self._saved_parts.popleft()
        part = await make()
        self.discard_text()
        self.save([part], self._state())
        return part

    def discard_text(self) -> None:
        """Drop the current text; its answer counts as generated and not kept."""
        if self.answer is not None:
            self.meter.drafted[self.answer.author] += len(self.answer.ids)
        self.thinker = self.answer = None
        self._saved.clear()

    def draft(self) -> GeneratedResponse:
        """Return the current response, complete or not."""
        thinker, thinking = self.thinker, ThinkingResult()
        if isinstance(thinker, Cooperation):
            thinking = thinker.thinking.result()
        elif thinker is not None:
            thinking = thinker.thinking_result(self.context.format.codec)
        answer: tuple[str, list[int]] = ("", [])
        by = self.context.answering
        if self.answer is not None:
            answer, by = self.answer.text_in(self.context.format.codec), self.answer.author
        return GeneratedResponse(thinking, *answer, by)

    def trajectory(self, ended_by: Author, response: GeneratedResponse | None = None) -> Trajectory:
        """Return the row of a finished sample, with ``response`` or else the current one."""
        context = self.context
        common = self._common(response)
        response = response or self.draft()
        content = context.format.assistant(response.thinking.text, response.answer)
        ids = None
        if context.writes_ids:
            ids = StudentIds(
                thinking=pack_ids(response.thinking.ids), answer=pack_ids(response.answer_ids)
            )
        common["messages"] = (*self.problem.messages, Message(role="assistant", content=content))
        return Trajectory(**common, ended_by=ended_by, student_ids=ids)

    def failure(self, reason: FailureReason, detail: str) -> Failure:
        """Return the row of a sample that could not be finished, with its text so far."""
        return Failure(**self._common(self.shown), reason=reason, detail=detail)

    def _trimmed(self, response: GeneratedResponse) -> dict[Author, int]:
        """Return the tokens of the answer as generated, minus those in the row: white space.

        Of an answer in another model's tokens it is the difference of the two counts.
        """
        if self.answer is None:
            return {}
        return {self.answer.author: len(self.answer.ids) - len(response.answer_ids)}

    def _common(self, part: GeneratedResponse | None) -> dict[str, Any]:
        response = part or self.draft()
        thinking = response.thinking
        return {
            "id": self.problem.id,
            "sample": self.sample,
            "strategy": self.context.strategy,
            "messages": self.problem.messages,
            "thinking": thinking.text,
            "answer": response.answer,
            "answer_by": response.answer_by,
            "spans": thinking.spans,
            "tokens": self.meter.token_counts(response, counted=part is not None),
            "forced": by_author(thinking.forced),
            "glued": thinking.mid_word_handovers,
            "attempts": self.number,
            "seconds": round(sum(self.meter.seconds.values()), 4),
            "cost": self.meter.cost(self._trimmed(response) if part is None else {}),
            "problem": self.problem.extra,
            **self.extras,
        }
