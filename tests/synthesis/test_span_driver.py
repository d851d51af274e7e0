"""A request's draft driven in callbacks: nothing is lost, nothing hangs, nothing stays open."""

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
from tessy.inference.base import Chunk, ChunkSink, Request, Sampling
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
    run,
)
from tests.support.engine_streams import GeneratorEngine, iterate
from tests.support.garbage import no_collector
from tests.synthesis.test_prefetch import babble, two, written
from tests.synthesis.test_sample import make_attempt, make_context

TEXT = "Okay, let us see x=1 y=2 now."
KNOWN = ReferenceClasses(TEXT, lambda unit: "=" not in unit, sees_next=True)


class Deferred:
    """A predictor whose results come when ``answer`` calls what it receives."""

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


class Pushing:
    """Hands a stream's ids on in chunks of odd sizes, after odd turns of the event loop."""

    def __init__(self, inner, rng):
        self.inner, self.rng, self.open = inner, rng, 0

    async def stream(self, request, tap):
        self.open += 1
        try:
            async with aclosing(iterate(self.inner, request)) as chunks:
                held = [chunk async for chunk in chunks]
            while held and not tap.closed:
                for _ in range(self.rng.choice([0, 0, 1, 7])):
                    await asyncio.sleep(0)
                for _ in range(self.rng.choice([1, 1, 5])):  # several in one packet
                    size = self.rng.choice([1, 1, 2, 9])
                    new, held = held[:size], held[size:]
                    if new and not tap.closed:
                        ids = tuple(i for chunk in new for i in chunk.ids)
                        tap.put(new[-1]._replace(ids=ids))
        finally:
            self.open -= 1


async def drive(
    machine: Cooperation, engines: dict[Any, Any], predictors: Any, limit: int = 5000
) -> Done:
    """The desk's loop, without the desk."""

    async def send(ask: Generate, tap: ChunkSink) -> None:
        request = Request("p/0", ask.prompt, Sampling(), ask.max_tokens, ask.stop_ids, ask.seed)
        await engines[ask.author].stream(request, tap)

    def judge(peek: PredictNext):
        return predictors[peek.author].predict(peek.request)

    async with HandoverPrefetch(send, judge, lambda *_: None) as ahead:
        for _ in range(limit):
            move = machine.next()
            if isinstance(move, Done):
                return move
            if isinstance(move, PredictNext):
                machine.predicted_next(await ahead.prediction_for(move))
                continue
            span = SpanDriver(machine, predictors[move.author], ahead, lambda: 0.0)
            await span.run(move)
            machine.closed()
    raise AssertionError("no end")


def others() -> set[asyncio.Task[Any]]:
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

    def new():
        return make(CODECS, inner, cut=cut, request_tokens=request_tokens, redraws=False)

    def engines():
        return {author: engine(babble(codec), codec, author) for author, codec in CODECS.items()}

    expected = new()
    run(expected, engines(), inner)

    async def go():
        rng = random.Random(seed)
        loop = asyncio.get_running_loop()

        def later(tell, turns):
            if turns:
                loop.call_soon(later, tell, turns - 1)
            else:
                tell()

        def answer(tell):
            later(tell, 0 if answers == "at once" else rng.choice([0, 0, 1, 2, 9]))

        asked = (
            inner if answers == "awaited" else {a: Deferred(p, answer) for a, p in inner.items()}
        )
        pushing = {author: Pushing(e, rng) for author, e in engines().items()}
        machine = new()
        await drive(machine, pushing, asked)
        assert not others()
        assert [e.open for e in pushing.values()] == [0, 0]
        return machine

    assert written(asyncio.run(go())) == written(expected)


async def test_objects_of_a_span_are_freed_without_the_garbage_collector():
    def later(tell):
        asyncio.get_running_loop().call_soon(tell)

    classes = RandomClasses(5, sees_next=True)
    predictors = {author: Deferred(classes, later) for author in CODECS}
    machine = make(CODECS, both(classes), redraws=False)
    with no_collector(SpanDriver, Turn, ChunkSink) as new:
        engines = {author: engine(babble(codec), codec, author) for author, codec in CODECS.items()}
        await drive(machine, engines, predictors)
        assert [type(thing) for thing in new()] == [Turn]  # the machine's last one


# ------------------------------------------------------------------ errors


class Closed(ReferenceClasses):
    """Says no before it is awaited, as a classifier that was closed does."""

    def __init__(self, inner):
        self.sees_next, self.lookahead = inner.sees_next, inner.lookahead

    def predict(self, view):
        raise EngineUnavailable("closed on purpose")


class Cancelled(Closed):
    """Is cancelled by its own."""

    async def predict(self, view):
        raise asyncio.CancelledError


@pytest.mark.parametrize("bad", [Closed(KNOWN), Cancelled(KNOWN)])
async def test_an_error_when_a_predictor_is_called_fails_the_span(bad):
    machine = make(CODECS, both(KNOWN))
    engines = two("Okay, let us see x", (" x=1 y=2 now.", 257))
    with pytest.raises(EngineUnavailable):
        async with asyncio.timeout(5):
            await drive(machine, engines, {"student": bad, "teacher": KNOWN})
    assert not others()


class Silly(Closed):
    """Answers with something else."""

    async def predict(self, view):
        return None


async def test_an_invalid_prediction_fails_the_span():
    machine = make(CODECS, both(KNOWN))
    engines = two("Okay, let us see x", "never")
    with pytest.raises(AttributeError):
        await drive(machine, engines, {"student": Silly(KNOWN), "teacher": KNOWN}, limit=5)
    assert not others()


class Steady(GeneratorEngine):
    """Lets the predictor answer between two tokens."""

    def __init__(self, inner):
        self.inner = inner

    async def chunks(self, request):
        async with aclosing(iterate(self.inner, request)) as chunks:
            async for chunk in chunks:
                yield chunk
                for _ in range(5):
                    await asyncio.sleep(0)


class Endless:
    """Never brings a token."""

    open = 0

    async def stream(self, request, tap):
        self.open += 1
        ended = asyncio.Event()
        tap.on_close = ended.set
        try:
            await ended.wait()
        finally:
            self.open -= 1


async def test_no_prefetched_request_stays_open_if_its_prediction_cannot_start():
    machine = make(CODECS, both(KNOWN))
    teacher = Endless()
    engines: dict[Any, Any] = two("Okay, let us see x", "never") | {"teacher": teacher}
    engines["student"] = Steady(engines["student"])
    with pytest.raises(EngineUnavailable):
        async with asyncio.timeout(5):
            await drive(machine, engines, {"student": KNOWN, "teacher": Closed(KNOWN)})
    assert not others()
    assert not teacher.open


async def test_tokens_after_the_end_of_a_span_count_as_drafted():
    """They arrive while the predictor finds the boundary in what came before."""
    loop = asyncio.get_running_loop()
    packets = [CODECS["student"].encode(part) for part in ("Okay, let us ", "see x", "=1")]

    class Burst:
        async def stream(self, request, tap):
            for ids in packets:
                tap.put(Chunk(tuple(ids)))
            ended = loop.create_future()
            tap.on_close = lambda: ended.set_result(None)
            await ended

    never = ReferenceClasses(TEXT, lambda unit: False, sees_next=True)
    slow: Any = Deferred(never, loop.call_soon)
    machine = make(CODECS, both(KNOWN))
    ask = machine.next()
    assert isinstance(ask, Generate)
    burst: Any = Burst()
    async with HandoverPrefetch(
        lambda _, tap: burst.stream(ask, tap), slow.predict, lambda *_: None
    ) as ahead:
        span = SpanDriver(machine, slow, ahead, lambda: 0.0)
        await span.run(ask)
    assert machine.over
    assert span.drafted == sum(map(len, packets))


@pytest.mark.parametrize("texts", [("Okay, let", " us see"), ("Okay,", " let"), ("Okay", ", let")])
async def test_a_stream_without_a_final_chunk_ends_the_span(texts):
    """The first answer comes when two chunks have arrived and the stream has ended."""
    first, second = (tuple(CODECS["student"].encode(text)) for text in texts)

    class Short:
        async def stream(self, request, tap):
            tap.put(Chunk(first))
            tap.put(Chunk(second))

    loop = asyncio.get_running_loop()
    slow: Any = Deferred(KNOWN, lambda tell: loop.call_later(0.01, tell))
    machine = make(CODECS, both(KNOWN))
    ask = machine.next()
    assert isinstance(ask, Generate)
    short: Any = Short()
    async with HandoverPrefetch(
        lambda _, tap: short.stream(ask, tap), slow.predict, lambda *_: None
    ) as ahead:
        async with asyncio.timeout(5):
            span = SpanDriver(machine, slow, ahead, lambda: 0.0)
            await span.run(ask)
    assert span.drafted == len(first) + len(second)


class Watched:
    """Notes which requests were closed before they had ended."""

    def __init__(self, inner):
        self.inner, self.closed = inner, []

    async def stream(self, request, tap):
        async with aclosing(iterate(self.inner, request)) as chunks:
            async for chunk in chunks:
                tap.put(chunk)
                if tap.closed:
                    break
        self.closed.append(tap.closed)


async def test_a_reply_that_has_ended_is_not_closed():
    """It would take the connection with it."""
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
        asked = {
            a: Deferred(p, rng.choice([loop.call_soon, lambda tell: tell()]))
            for a, p in inner.items()
        }
        pushing = {a: Pushing(engine(babble(c), c, a), rng) for a, c in CODECS.items()}
        task = asyncio.create_task(drive(make(CODECS, inner), pushing, asked))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not others()
        assert [e.open for e in pushing.values()] == [0, 0]

    asyncio.run(go())
