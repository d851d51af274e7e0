"""The span driver: all tokens are delivered, every span ends, and no request stays open."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessy.boundary.base import BoundaryPredictor
from tessy.core.errors import EngineUnavailable
from tessy.inference.base import Chunk, ChunkSink
from tessy.synthesis.actions import Done, Generate, PredictNext
from tessy.synthesis.cooperation import Cooperation
from tessy.synthesis.prefetch import HandoverPrefetch
from tessy.synthesis.span_driver import SpanDriver
from tessy.synthesis.strategies.tessy import tessy
from tessy.synthesis.turn import Turn
from tests.support.cooperation_driver import (
    CODECS,
    RandomClasses,
    ReferenceClasses,
    both,
    engine,
    make,
    request_of,
    run,
)
from tests.support.engine_streams import GeneratorEngine, iterate
from tests.support.garbage import no_collector
from tests.synthesis.test_prefetch import fixed_engines, random_words, written
from tests.synthesis.test_sample import make_attempt, make_context

TEXT = "Okay, let us see x=1 y=2 now."
KNOWN = ReferenceClasses(TEXT, lambda unit: "=" not in unit, sees_next=True)


class Deferred:
    """A predictor that passes the delivery of each result to ``answer``, which may delay it."""

    def __init__(self, inner, answer):
        self.inner, self.answer = inner, answer
        self.name, self.sees_next, self.lookahead = "deferred", inner.sees_next, inner.lookahead
        self.release, self.aclose = inner.release, inner.aclose

    def predict(self, request):
        predicting = self.inner.predict(request)
        try:
            predicting.send(None)
        except StopIteration as ended:
            result = ended.value
        future = asyncio.get_running_loop().create_future()

        def deliver():
            if not future.done():
                future.set_result(result)

        self.answer(deliver)
        return future


class OddChunks:
    """Delivers a stream in chunks of random sizes, after random turns of the event loop."""

    def __init__(self, inner, rng):
        self.inner, self.rng, self.open = inner, rng, 0

    async def stream(self, request, sink):
        self.open += 1
        try:
            async with aclosing(iterate(self.inner, request)) as chunks:
                held = [chunk async for chunk in chunks]
            while held and not sink.closed:
                for _ in range(self.rng.choice([0, 0, 1, 7])):
                    await asyncio.sleep(0)
                for _ in range(self.rng.choice([1, 1, 5])):  # several in one packet
                    size = self.rng.choice([1, 1, 2, 9])
                    make_new, held = held[:size], held[size:]
                    if make_new and not sink.closed:
                        ids = tuple(i for chunk in make_new for i in chunk.ids)
                        sink.put(make_new[-1]._replace(ids=ids))
        finally:
            self.open -= 1


async def drive(
    machine: Cooperation, engines: dict[Any, Any], predictors: Any, limit: int = 5000
) -> Done:
    """Run the cooperation to its end, as an attempt does, but without saving."""

    async def send(generate: Generate, sink: ChunkSink) -> None:
        await engines[generate.author].stream(request_of(generate), sink)

    def predict(predict_next: PredictNext):
        return predictors[predict_next.author].predict(predict_next.request)

    async with HandoverPrefetch(send, predict, lambda *_: None) as ahead:
        for _ in range(limit):
            action = machine.next()
            if isinstance(action, Done):
                return action
            if isinstance(action, PredictNext):
                machine.predicted_next(await ahead.prediction_for(action))
                continue
            span = SpanDriver(machine, predictors[action.author], ahead, lambda: 0.0)
            await span.run(action)
            machine.closed()
    raise AssertionError("no end")


def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from(["discard", "extend"]),
    st.sampled_from([5, 20, 64]),
    st.booleans(),
    st.sampled_from(["at once", "odd", "awaited"]),
)
def test_any_order_of_chunks_and_predictions_gives_the_same_text(
    seed, agree, cut, request_tokens, sees_next, answers
):
    inner: dict[Any, BoundaryPredictor] = {
        "student": RandomClasses(seed, sees_next=sees_next),
        "teacher": RandomClasses(seed + (not agree), sees_next=sees_next),
    }

    def make_new():
        return make(CODECS, inner, cut=cut, request_tokens=request_tokens, redraws=False)

    def engines():
        return {
            author: engine(random_words(codec), codec, author) for author, codec in CODECS.items()
        }

    expected = make_new()
    run(expected, engines(), inner)

    async def go():
        rng = random.Random(seed)
        loop = asyncio.get_running_loop()

        def later(deliver, turns):
            if turns:
                loop.call_soon(later, deliver, turns - 1)
            else:
                deliver()

        def answer(deliver):
            later(deliver, 0 if answers == "at once" else rng.choice([0, 0, 1, 2, 9]))

        predictors_in_use = (
            inner if answers == "awaited" else {a: Deferred(p, answer) for a, p in inner.items()}
        )
        engines_in_use = {author: OddChunks(e, rng) for author, e in engines().items()}
        machine = make_new()
        await drive(machine, engines_in_use, predictors_in_use)
        assert not other_tasks()
        assert [e.open for e in engines_in_use.values()] == [0, 0]
        return machine

    assert written(asyncio.run(go())) == written(expected)


async def test_objects_of_a_span_are_freed_without_the_garbage_collector():
    def later(deliver):
        asyncio.get_running_loop().call_soon(deliver)

    classes = RandomClasses(5, sees_next=True)
    predictors = {author: Deferred(classes, later) for author in CODECS}
    machine = make(CODECS, both(classes), redraws=False)
    with no_collector(SpanDriver, Turn, ChunkSink) as new_objects:
        engines = {
            author: engine(random_words(codec), codec, author) for author, codec in CODECS.items()
        }
        await drive(machine, engines, predictors)
        assert [type(item) for item in new_objects()] == [Turn]  # the machine's last one


# ------------------------------------------------------------------ errors


class Closed(ReferenceClasses):
    """Raises before it is awaited, like a closed classifier."""

    def __init__(self, inner):
        self.sees_next, self.lookahead = inner.sees_next, inner.lookahead

    def predict(self, request):
        raise EngineUnavailable("closed on purpose")


class Cancelled(Closed):
    """Cancels its own prediction."""

    async def predict(self, request):
        raise asyncio.CancelledError


@pytest.mark.parametrize("bad", [Closed(KNOWN), Cancelled(KNOWN)])
async def test_an_error_when_a_predictor_is_called_fails_the_span(bad):
    machine = make(CODECS, both(KNOWN))
    engines = fixed_engines("Okay, let us see x", (" x=1 y=2 now.", 257))
    with pytest.raises(EngineUnavailable):
        async with asyncio.timeout(5):
            await drive(machine, engines, {"student": bad, "teacher": KNOWN})
    assert not other_tasks()


class InvalidPrediction(Closed):
    """Returns an object that is not a prediction."""

    async def predict(self, request):
        return None


async def test_an_invalid_prediction_fails_the_span():
    machine = make(CODECS, both(KNOWN))
    engines = fixed_engines("Okay, let us see x", "never")
    with pytest.raises(AttributeError):
        await drive(
            machine, engines, {"student": InvalidPrediction(KNOWN), "teacher": KNOWN}, limit=5
        )
    assert not other_tasks()


class SlowTokens(GeneratorEngine):
    """Waits between two tokens until the predictor has returned."""

    def __init__(self, inner):
        self.inner = inner

    async def chunks(self, request):
        async with aclosing(iterate(self.inner, request)) as chunks:
            async for chunk in chunks:
                yield chunk
                for _ in range(5):
                    await asyncio.sleep(0)


class Endless:
    """Never delivers a token."""

    open = 0

    async def stream(self, request, sink):
        self.open += 1
        ended = asyncio.Event()
        sink.on_close = ended.set
        try:
            await ended.wait()
        finally:
            self.open -= 1


async def test_no_prefetched_request_stays_open_if_its_prediction_cannot_start():
    machine = make(CODECS, both(KNOWN))
    teacher = Endless()
    engines: dict[Any, Any] = fixed_engines("Okay, let us see x", "never") | {"teacher": teacher}
    engines["student"] = SlowTokens(engines["student"])
    with pytest.raises(EngineUnavailable):
        async with asyncio.timeout(5):
            await drive(machine, engines, {"student": KNOWN, "teacher": Closed(KNOWN)})
    assert not other_tasks()
    assert not teacher.open


async def test_tokens_after_the_end_of_a_span_count_as_drafted():
    """They arrive while the predictor classifies the tokens before them."""
    loop = asyncio.get_running_loop()
    packets = [CODECS["student"].encode(part) for part in ("Okay, let us ", "see x", "=1")]

    class Burst:
        async def stream(self, request, sink):
            for ids in packets:
                sink.put(Chunk(tuple(ids)))
            ended = loop.create_future()
            sink.on_close = lambda: ended.set_result(None)
            await ended

    never = ReferenceClasses(TEXT, lambda unit: False, sees_next=True)
    slow: Any = Deferred(never, loop.call_soon)
    machine = make(CODECS, both(KNOWN))
    generate = machine.next()
    assert isinstance(generate, Generate)
    burst: Any = Burst()
    async with HandoverPrefetch(
        lambda _, sink: burst.stream(generate, sink), slow.predict, lambda *_: None
    ) as ahead:
        span = SpanDriver(machine, slow, ahead, lambda: 0.0)
        await span.run(generate)
    assert machine.over
    assert span.drafted == sum(map(len, packets))


@pytest.mark.parametrize("texts", [("Okay, let", " us see"), ("Okay,", " let"), ("Okay", ", let")])
async def test_a_stream_without_a_final_chunk_ends_the_span(texts):
    """The first prediction arrives after two chunks and the end of the stream."""
    first, second = (tuple(CODECS["student"].encode(text)) for text in texts)

    class Short:
        async def stream(self, request, sink):
            sink.put(Chunk(first))
            sink.put(Chunk(second))

    loop = asyncio.get_running_loop()
    slow: Any = Deferred(KNOWN, lambda deliver: loop.call_later(0.01, deliver))
    machine = make(CODECS, both(KNOWN))
    generate = machine.next()
    assert isinstance(generate, Generate)
    short: Any = Short()
    async with HandoverPrefetch(
        lambda _, sink: short.stream(generate, sink), slow.predict, lambda *_: None
    ) as ahead:
        async with asyncio.timeout(5):
            span = SpanDriver(machine, slow, ahead, lambda: 0.0)
            await span.run(generate)
    assert span.drafted == len(first) + len(second)


class Watched:
    """Records which requests were closed before they had ended."""

    def __init__(self, inner):
        self.inner, self.closed = inner, []

    async def stream(self, request, sink):
        async with aclosing(iterate(self.inner, request)) as chunks:
            async for chunk in chunks:
                sink.put(chunk)
                if sink.closed:
                    break
        self.closed.append(sink.closed)


async def test_a_reply_that_has_ended_is_not_closed():
    """Closing it would close its connection, which can be used again."""
    context = make_context()
    for backend in context.backends.values():
        object.__setattr__(backend, "engine", Watched(backend.engine))
    attempt = make_attempt(context)
    row = await tessy(attempt)
    assert row.answer
    assert context.backends["student"].engine.closed[-1] is False


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 150), st.booleans())
def test_cancelling_a_span_at_any_point_leaves_nothing_open(seed, turns, sees_next):
    inner: dict[Any, BoundaryPredictor] = both(RandomClasses(seed, sees_next=sees_next))  # type: ignore[assignment]

    async def go():
        rng = random.Random(seed)
        loop = asyncio.get_running_loop()
        predictors_in_use = {
            a: Deferred(p, rng.choice([loop.call_soon, lambda deliver: deliver()]))
            for a, p in inner.items()
        }
        engines_in_use = {
            a: OddChunks(engine(random_words(c), c, a), rng) for a, c in CODECS.items()
        }
        task = asyncio.create_task(drive(make(CODECS, inner), engines_in_use, predictors_in_use))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not other_tasks()
        assert [e.open for e in engines_in_use.values()] == [0, 0]

    asyncio.run(go())
