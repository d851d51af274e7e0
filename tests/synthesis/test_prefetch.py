"""Hand-overs that are prepared before they are settled: nothing written may depend on them."""

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
from tessy.inference.base import Request, Sampling
from tessy.inference.scripted import END_THINKING
from tessy.synthesis.actions import Done, Generate, PredictNext
from tessy.synthesis.strategies.tessy import tessy
from tests.support.cooperation_driver import (
    CODECS,
    RandomClasses,
    ReferenceClasses,
    both,
    engine,
    make,
    run,
    say,
    step,
)
from tests.support.engine_streams import GeneratorEngine, iterate
from tests.support.saved_samples import SavedSample
from tests.synthesis.test_sample import THINKING, is_style, make_attempt, make_context


def babble(codec, *, words=12, long=150):
    """Writes words that depend on the place alone, some in halves, as greedy models would."""

    def script(text, draw):
        if len(text) > long:
            return [END_THINKING]
        start = len(text)
        said = [f"w{derive_seed(start, i) % 50}" for i in range(words)]
        gap = "\n" if derive_seed(start) % 5 == 0 else " "
        return codec.encode((gap if text else "") + " ".join(said))

    return script


def two(student, teacher):
    """Engines that each say one thing."""
    said = {"student": student, "teacher": teacher}
    return {a: engine(say(codec, said[a]), codec, a) for a, codec in CODECS.items()}


def written(machine):
    thinking = machine.thinking
    return (
        thinking.text,
        thinking.spans,
        thinking.student_ids,
        machine.thinking.forced,
        machine.thinking.mid_word_handovers,
    )


async def follow(machine, engines, predictors, *, look, limit=2000):
    """Drive ``machine`` and note every move; with ``look``, ask for what is prepared as well."""
    moves: list[Any] = []
    prepared = 0

    def look_ahead():
        nonlocal prepared
        if look and machine.likely_next is not None:
            assert machine.likely_next is machine.likely_next
            prepared += 1

    for _ in range(limit):
        move = machine.next()
        if isinstance(move, Done):
            return moves, prepared
        moves.append(noted(move))
        await step(machine, move, engines, predictors, after_chunk=look_ahead)
    raise AssertionError("no end")


def noted(move):
    if isinstance(move, PredictNext):
        return (
            move.author,
            move.request.text,
            move.request.edges,
            move.request.final,
            move.request.own_from,
        )
    return move.author, tuple(move.prompt.ids), move.prompt.json, move.max_tokens, move.seed


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["discard", "extend"]), st.sampled_from([3, 20, 64]))
def test_a_prefetched_request_equals_the_one_sent_without_prefetch(seed, cut, request_tokens):
    async def go(look):
        predictors = {
            "student": RandomClasses(seed, sees_next=True),
            "teacher": RandomClasses(seed + seed % 2, sees_next=True),
        }
        engines = {author: engine(babble(codec), codec, author) for author, codec in CODECS.items()}
        machine = make(CODECS, predictors, cut=cut, request_tokens=request_tokens)
        moves, _ = await follow(machine, engines, predictors, look=look)
        return moves, written(machine)

    assert asyncio.run(go(look=True)) == asyncio.run(go(look=False))


def test_a_hand_over_is_prepared_before_it_is_settled():
    text = "Okay, let us see x=1 y=2 now."
    known = ReferenceClasses(text, lambda u: "=" not in u, sees_next=True)
    engines = two("Okay, let us see x", (" x=1 y=2 now.", END_THINKING))
    machine = make(CODECS, both(known))

    async def go():
        ask = machine.next()
        assert isinstance(ask, Generate)
        request = Request("p/0", ask.prompt, Sampling(), ask.max_tokens, ask.stop_ids, ask.seed)
        early = []
        async for chunk in iterate(engines["student"], request):
            machine.receive(chunk)
            while (view := machine.pending_prediction()) is not None:
                machine.apply_prediction(view, await known.predict(view))
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
    judgement = asyncio.run(known.predict(expected.predict_next.request))
    assert machine.next() is expected.predict_next
    machine.predicted_next(judgement)
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
            author: engine(babble(codec), codec, author, chunk_tokens)
            for author, codec in CODECS.items()
        }
        machine = make(CODECS, predictors, cut=cut, request_tokens=request_tokens, redraws=False)
        run(machine, engines, predictors)
        return written(machine)

    assert go(chunk) == go(1)


# ------------------------------------------------------------------ the driver


class Slow(GeneratorEngine):
    """An engine whose chunks take a few turns of the event loop; counts what is left open."""

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
    """A predictor that answers after a few turns of the event loop."""

    def __init__(self, inner, rng):
        self.inner, self.rng = inner, rng
        self.name, self.sees_next, self.lookahead = "slow", inner.sees_next, inner.lookahead
        self.release, self.aclose = inner.release, inner.aclose

    async def predict(self, view):
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)
        return await self.inner.predict(view)


def slow_room(seed, *, classes=None, **options):
    """Models at odd speeds, that write a fixed text where the predictors know the classes."""
    rng = random.Random(seed)
    known = classes or ReferenceClasses(THINKING, is_style, sees_next=True)
    context = make_context(predictors=dict.fromkeys(("student", "teacher"), SlowClasses(known,
    rng)),
                     **options)  # fmt: skip
    for backend in context.backends.values():
        object.__setattr__(backend, "engine", Slow(backend.engine, rng))
    return context


def left_open(context):
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return tasks, [backend.engine.open for backend in context.backends.values()]


class Wavering(ReferenceClasses):
    """Sees a hand-over behind half words that end in one of some letters."""

    async def predict(self, view):
        judgement = await super().predict(view)
        end = len(view.text)
        half = end < len(THINKING) and not THINKING[end].isspace()
        if len(view.edges) == 1 or not half or view.text[-1] not in "aeot":
            return judgement
        return replace(judgement, next_style=1.0 - (judgement.next_style or 0.0))


@pytest.mark.parametrize("seed", range(5))
async def test_prefetch_sends_requests_early_and_keeps_the_text(seed):
    plain = await tessy(make_attempt(make_context()))
    context = slow_room(seed)
    attempt = make_attempt(context)
    row = await tessy(attempt)
    assert (row.thinking, row.spans, row.student_ids) == (
        plain.thinking,
        plain.spans,
        plain.student_ids,
    )
    assert left_open(context) == (set(), [0, 0])
    assert row.cost.requests == {a: s.engine.opened for a, s in context.backends.items()}


async def test_a_prefetched_request_is_closed_and_counted_if_the_word_continues():
    classes = Wavering(THINKING, is_style, sees_next=True)
    rows = []
    for context in (slow_room(0), slow_room(0, classes=classes)):
        rows.append(await tessy(make_attempt(context)))
        assert left_open(context) == (set(), [0, 0])
        opened = {a: s.engine.opened for a, s in context.backends.items()}
        assert rows[-1].cost.requests == opened
    steady, wavering = rows
    assert (wavering.thinking, wavering.spans) == (steady.thinking, steady.spans)
    assert sum(wavering.cost.requests.values()) > sum(steady.cost.requests.values())


async def test_a_sample_with_prefetched_requests_resumes_from_any_saved_state_to_the_same_row():
    saved = SavedSample()
    whole = await tessy(make_attempt(slow_room(1), save=saved.save))
    assert len(saved.loaded) > 10
    for state in saved.loaded:
        row = await tessy(make_attempt(slow_room(2), saved=state))
        assert (row.thinking, row.spans, row.student_ids, row.answer) == (
            whole.thinking,
            whole.spans,
            whole.student_ids,
            whole.answer,
        )
        assert row.cost.requests == whole.cost.requests


class Left(Exception):
    pass


@pytest.mark.parametrize("count", range(1, 14))
async def test_nothing_stays_open_when_a_sample_is_left_between_requests(count):
    context = slow_room(3)
    attempt = make_attempt(context)
    left = iter(range(count))

    def checkpoint():
        if next(left, None) is None:
            raise Left

    attempt.checkpoint = checkpoint
    with pytest.raises(Left):
        await tessy(attempt)
    assert left_open(context) == (set(), [0, 0])


@pytest.mark.parametrize("turns", range(5, 120, 7))
async def test_nothing_stays_open_when_a_sample_is_cancelled(turns):
    context = slow_room(4)
    task = asyncio.ensure_future(tessy(make_attempt(context)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_open(context) == (set(), [0, 0])


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize("author", ["student", "teacher"])
async def test_a_failed_prefetched_request_fails_when_it_is_needed(author, number):
    context = slow_room(5)
    context.backends[author].engine.failing = number
    with pytest.raises(EngineUnavailable, match="on purpose"):
        await tessy(make_attempt(context))
    assert left_open(context) == (set(), [0, 0])


async def test_a_failed_prefetched_request_that_is_not_needed_is_ignored():
    classes = Wavering(THINKING, is_style, sees_next=True)
    trial = slow_room(6, classes=classes)
    await tessy(make_attempt(trial))
    unread = [
        number
        for number in range(1, trial.backends["teacher"].engine.opened + 1)
        if await _survives(classes, number)
    ]
    assert unread


async def _survives(classes, number):
    context = slow_room(6, classes=classes)
    context.backends["teacher"].engine.failing = number
    try:
        row = await tessy(make_attempt(context))
    except EngineUnavailable:
        return False
    assert row.thinking == THINKING
    return True


def test_no_request_beyond_the_budget_is_prefetched():
    known = both(ReferenceClasses("Okay, so x=1 y=2", lambda u: "=" not in u, sees_next=True))
    engines = two("Okay, so x", "never")
    spent = len(CODECS["student"].encode("Okay, so"))
    machine = make(CODECS, known, budget=spent)

    async def go():
        _, prepared = await follow(machine, engines, known, look=True)
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
    engines = two(kept + " x", (" x=1", END_THINKING))
    machine = make(CODECS, known, **{limit: 30})
    prefetched = []

    def look():
        prefetched.append(machine.likely_next)

    first = machine.next()
    assert isinstance(first, Generate)
    asyncio.run(step(machine, first, engines, known, after_chunk=look))
    expected = next(one for one in prefetched if one is not None and one.end == len(kept))
    assert expected.generate.author == "teacher"
    assert expected.generate.max_tokens == 30 - sizes[author]
