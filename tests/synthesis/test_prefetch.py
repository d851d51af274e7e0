"""Prefetched hand-overs: the text does not depend on them, and no request stays open."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessy.core.errors import EngineUnavailable, SampleFailed
from tessy.core.seeds import derive_seed
from tessy.inference.scripted import END_THINKING
from tessy.synthesis.actions import Done, Generate, PredictNext
from tessy.synthesis.strategies.tessy import tessy
from tests.support.cooperation_driver import (
    CODECS,
    RandomClasses,
    ReferenceClasses,
    both,
    engine,
    in_parts,
    make,
    request_of,
    run,
    step,
)
from tests.support.engine_streams import GeneratorEngine, iterate
from tests.support.saved_samples import SavedSample
from tests.synthesis.test_sample import THINKING, is_style, make_attempt, make_context


def random_words(codec, *, words=12, long=150):
    """Return a script of words that depend on their position alone; some are split in two."""

    def script(text, draw):
        if len(text) > long:
            return [END_THINKING]
        start = len(text)
        said = [f"w{derive_seed(start, i) % 50}" for i in range(words)]
        gap = "\n" if derive_seed(start) % 5 == 0 else " "
        return codec.encode((gap if text else "") + " ".join(said))

    return script


def fixed_engines(student, teacher):
    """Return engines that each generate fixed texts."""
    said = {"student": student, "teacher": teacher}
    return {a: engine(in_parts(codec, said[a]), codec, a) for a, codec in CODECS.items()}


def written(machine):
    thinking = machine.thinking
    return (
        thinking.text,
        thinking.spans,
        thinking.student_ids,
        machine.thinking.forced,
        machine.thinking.mid_word_handovers,
    )


async def drive_recorded(machine, engines, predictors, *, prefetch, limit=2000):
    """Return the actions of a run, and how often a hand-over was likely (with ``prefetch``)."""
    actions: list[Any] = []
    prepared = 0

    def look_ahead():
        nonlocal prepared
        if prefetch and machine.likely_next is not None:
            assert machine.likely_next is machine.likely_next
            prepared += 1

    for _ in range(limit):
        action = machine.next()
        if isinstance(action, Done):
            return actions, prepared
        actions.append(recorded(action))
        await step(machine, action, engines, predictors, after_chunk=look_ahead)
    raise AssertionError("no end")


def recorded(action):
    if isinstance(action, PredictNext):
        return (
            action.author,
            action.request.text,
            action.request.edges,
            action.request.final,
            action.request.own_from,
        )
    return (
        action.author,
        tuple(action.prompt.ids),
        action.prompt.json,
        action.max_tokens,
        action.seed,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["discard", "extend"]), st.sampled_from([3, 20, 64]))
def test_a_prefetched_request_equals_the_one_sent_without_prefetch(seed, cut, request_tokens):
    async def go(prefetch):
        predictors = {
            "student": RandomClasses(seed, sees_next=True),
            "teacher": RandomClasses(seed + seed % 2, sees_next=True),
        }
        engines = {
            author: engine(random_words(codec), codec, author) for author, codec in CODECS.items()
        }
        machine = make(CODECS, predictors, cut=cut, request_tokens=request_tokens)
        actions, _ = await drive_recorded(machine, engines, predictors, prefetch=prefetch)
        return actions, written(machine)

    assert asyncio.run(go(prefetch=True)) == asyncio.run(go(prefetch=False))


def test_a_hand_over_is_prepared_before_it_is_settled():
    text = "Okay, let us see x=1 y=2 now."
    known = ReferenceClasses(text, lambda u: "=" not in u, sees_next=True)
    engines = fixed_engines("Okay, let us see x", (" x=1 y=2 now.", END_THINKING))
    machine = make(CODECS, both(known))

    async def go():
        generate = machine.next()
        assert isinstance(generate, Generate)
        early = []
        async for chunk in iterate(engines["student"], request_of(generate)):
            machine.receive(chunk)
            while (pending := machine.pending_prediction()) is not None:
                machine.apply_prediction(pending, await known.predict(pending))
            early.append(machine.likely_next)
            if machine.over:
                return early
        raise AssertionError("no hand-over")

    *_, settled = early = asyncio.run(go())
    expected = next(e for e in early if e is not None)
    assert settled is None
    assert expected.end == len("Okay, let us see")
    assert expected.predict_next.request.text == "Okay, let us see"
    machine.closed()
    prediction = asyncio.run(known.predict(expected.predict_next.request))
    assert machine.next() is expected.predict_next
    machine.predicted_next(prediction)
    assert machine.next() is expected.generate


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 200),
    st.booleans(),
    st.sampled_from(["discard", "extend"]),
    st.sampled_from([20, 64]),
)
def test_chunks_of_any_size_give_the_same_text(seed, chunk, agree, cut, request_tokens):
    predictors = {
        "student": RandomClasses(seed, sees_next=True),
        "teacher": RandomClasses(seed + (not agree), sees_next=True),
    }

    def go(chunk_tokens):
        engines = {
            author: engine(random_words(codec), codec, author, chunk_tokens)
            for author, codec in CODECS.items()
        }
        machine = make(CODECS, predictors, cut=cut, request_tokens=request_tokens, redraws=False)
        run(machine, engines, predictors)
        return written(machine)

    assert go(chunk) == go(1)


# ------------------------------------------------------------------ the driver


class Slow(GeneratorEngine):
    """An engine whose chunks take a few turns of the event loop; counts open requests."""

    def __init__(self, inner, rng):
        self.inner, self.rng, self.open, self.opened = inner, rng, 0, 0
        self.failing = 0  # the request with this number breaks
        self.release, self.aclose = inner.release, inner.aclose

    async def chunks(self, request):
        self.open += 1
        self.opened += 1
        number = self.opened
        try:
            async with aclosing(iterate(self.inner, request)) as chunks:
                async for chunk in chunks:
                    for _ in range(self.rng.randrange(12)):
                        await asyncio.sleep(0)
                    if number == self.failing:
                        raise EngineUnavailable("broken on purpose")
                    yield chunk
        finally:
            self.open -= 1


class SlowClasses:
    """A predictor that returns after a few turns of the event loop."""

    def __init__(self, inner, rng):
        self.inner, self.rng = inner, rng
        self.name, self.sees_next, self.lookahead = "slow", inner.sees_next, inner.lookahead
        self.release, self.aclose = inner.release, inner.aclose

    async def predict(self, request):
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)
        return await self.inner.predict(request)


def slow_context(seed, *, classes=None, **options):
    """Return a context with models of random speed that write a text with known classes."""
    rng = random.Random(seed)
    known = classes or ReferenceClasses(THINKING, is_style, sees_next=True)
    context = make_context(predictors=dict.fromkeys(("student", "teacher"), SlowClasses(known,
    rng)),
                     **options)  # fmt: skip
    for backend in context.backends.values():
        object.__setattr__(backend, "engine", Slow(backend.engine, rng))
    return context


def open_requests(context):
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return tasks, [backend.engine.open for backend in context.backends.values()]


class Wavering(ReferenceClasses):
    """Predicts a hand-over after incomplete words that end in one of a few letters."""

    async def predict(self, request):
        prediction = await super().predict(request)
        end = len(request.text)
        half = end < len(THINKING) and not THINKING[end].isspace()
        if len(request.edges) == 1 or not half or request.text[-1] not in "aeot":
            return prediction
        return replace(prediction, next_style=1.0 - (prediction.next_style or 0.0))


@pytest.mark.parametrize("seed", range(5))
async def test_prefetch_sends_requests_early_and_keeps_the_text(seed):
    plain = await tessy(make_attempt(make_context()))
    context = slow_context(seed)
    attempt = make_attempt(context)
    row = await tessy(attempt)
    assert (row.thinking, row.spans, row.student_ids) == (
        plain.thinking,
        plain.spans,
        plain.student_ids,
    )
    assert open_requests(context) == (set(), [0, 0])
    assert row.cost.requests == {a: s.engine.opened for a, s in context.backends.items()}


async def test_a_prefetched_request_is_closed_and_counted_if_the_word_continues():
    classes = Wavering(THINKING, is_style, sees_next=True)
    rows = []
    for context in (slow_context(0), slow_context(0, classes=classes)):
        rows.append(await tessy(make_attempt(context)))
        assert open_requests(context) == (set(), [0, 0])
        opened = {a: s.engine.opened for a, s in context.backends.items()}
        assert rows[-1].cost.requests == opened
    steady, wavering = rows
    assert (wavering.thinking, wavering.spans) == (steady.thinking, steady.spans)
    assert sum(wavering.cost.requests.values()) > sum(steady.cost.requests.values())


async def test_a_sample_with_prefetched_requests_resumes_from_any_saved_state_to_the_same_row():
    saved = SavedSample()
    whole = await tessy(make_attempt(slow_context(1), save=saved.save))
    assert len(saved.loaded) > 10
    for state in saved.loaded:
        row = await tessy(make_attempt(slow_context(2), saved=state))
        assert (row.thinking, row.spans, row.student_ids, row.answer) == (
            whole.thinking,
            whole.spans,
            whole.student_ids,
            whole.answer,
        )
        assert row.cost.requests == whole.cost.requests


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("count", range(1, 14))
async def test_nothing_stays_open_when_a_sample_is_left_between_requests(count):
    context = slow_context(3)
    attempt = make_attempt(context)
    left = iter(range(count))

    def checkpoint():
        if next(left, None) is None:
            raise Interrupted

    attempt.checkpoint = checkpoint
    with pytest.raises(Interrupted):
        await tessy(attempt)
    assert open_requests(context) == (set(), [0, 0])


@pytest.mark.parametrize("turns", range(5, 120, 7))
async def test_nothing_stays_open_when_a_sample_is_cancelled(turns):
    context = slow_context(4)
    task = asyncio.ensure_future(tessy(make_attempt(context)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_requests(context) == (set(), [0, 0])


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize("author", ["student", "teacher"])
async def test_a_failed_prefetched_request_fails_when_it_is_needed(author, number):
    context = slow_context(5)
    context.backends[author].engine.failing = number
    with pytest.raises(EngineUnavailable, match="on purpose"):
        await tessy(make_attempt(context))
    assert open_requests(context) == (set(), [0, 0])


async def test_a_failed_prefetched_request_that_is_not_needed_is_ignored():
    classes = Wavering(THINKING, is_style, sees_next=True)
    trial = slow_context(6, classes=classes)
    await tessy(make_attempt(trial))
    unread = [
        number
        for number in range(1, trial.backends["teacher"].engine.opened + 1)
        if await _survives(classes, number)
    ]
    assert unread


async def _survives(classes, number):
    context = slow_context(6, classes=classes)
    context.backends["teacher"].engine.failing = number
    try:
        row = await tessy(make_attempt(context))
    except EngineUnavailable:
        return False
    assert row.thinking == THINKING
    return True


def test_no_request_beyond_the_budget_is_prefetched():
    known = both(ReferenceClasses("Okay, so x=1 y=2", lambda u: "=" not in u, sees_next=True))
    engines = fixed_engines("Okay, so x", "never")
    spent = len(CODECS["student"].encode("Okay, so"))
    machine = make(CODECS, known, budget=spent)

    async def go():
        _, prepared = await drive_recorded(machine, engines, known, prefetch=True)
        return prepared

    with pytest.raises(SampleFailed, match="budget"):
        asyncio.run(go())
    assert not engines["teacher"].requests


@pytest.mark.parametrize(("limit", "author"), [("budget", "student"), ("context", "teacher")])
def test_a_prefetched_request_is_limited_by_budget_and_context_in_own_tokens(limit, author):
    kept = "Okay, so so so"
    sizes = {name: len(codec.encode(kept)) for name, codec in CODECS.items()}
    assert sizes["student"] != sizes["teacher"]
    known = both(ReferenceClasses(kept + " x=1", lambda u: "=" not in u, sees_next=True))
    engines = fixed_engines(kept + " x", (" x=1", END_THINKING))
    machine = make(CODECS, known, **{limit: 30})
    prefetched = []

    def prefetch():
        prefetched.append(machine.likely_next)

    first = machine.next()
    assert isinstance(first, Generate)
    asyncio.run(step(machine, first, engines, known, after_chunk=prefetch))
    expected = next(one for one in prefetched if one is not None and one.end == len(kept))
    assert expected.generate.author == "teacher"
    assert expected.generate.max_tokens == 30 - sizes[author]
