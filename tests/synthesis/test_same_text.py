"""Greedy models write the same text for any size of chunks and requests, with prefetch or without.

The bundled models at temperature 0, through the in-process engine.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tessy.boundary.classifier.predictor import TokenClassifierPredictor
from tessy.boundary.lexicon import LexiconPredictor
from tessy.boundary.phrases import Phrases
from tessy.core.records import Author
from tessy.inference.base import Chunk, Sampling
from tessy.inference.local.engine import LocalEngine
from tessy.lab.bundled import (
    ANSWER_TOKENS,
    THINKING_TOKENS,
    demo_problems,
    model_path,
    predictor_path,
)
from tessy.synthesis.attempt import SampleAttempt
from tessy.synthesis.context import RoleBackend, SynthesisContext
from tessy.synthesis.strategies.tessy import tessy
from tessy.tokenization.families import load_renderer
from tests.support.engine_streams import GeneratorEngine, iterate
from tests.synthesis.test_sample import KeptTokens

SIDES: tuple[Author, Author] = ("student", "teacher")
PROBLEMS = demo_problems(4, seed=5)
RENDERERS = {author: load_renderer(model_path(author)) for author in SIDES}


class InChunks(GeneratorEngine):
    """Delivers a stream in chunks of ``size``; None: all ids with the finish reason at once."""

    def __init__(self, inner, size, under_way):
        self.inner, self.size, self.under_way = inner, size, under_way
        self.early = 0  # requests sent while another one of the same sample was open
        self.probe, self.score = inner.probe, inner.score
        self.release, self.aclose = inner.release, inner.aclose

    async def chunks(self, request):
        self.early += bool(self.under_way)
        self.under_way.add(self)
        try:
            async with aclosing(self._cut(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self.under_way.discard(self)

    async def _cut(self, request):
        waiting: list[int] = []
        async with aclosing(iterate(self.inner, request)) as chunks:
            async for chunk in chunks:
                waiting += chunk.ids
                size = self.size or len(waiting) + 1
                while len(waiting) >= size:
                    yield Chunk(tuple(waiting[:size]))
                    del waiting[:size]
                if chunk.finish is not None:
                    yield chunk._replace(ids=tuple(waiting))


@pytest.fixture(scope="module")
def models():
    loaded = {author: LocalEngine.load(model_path(author), device="cpu") for author in SIDES}
    yield loaded
    for model in loaded.values():
        asyncio.run(model.aclose())


@pytest.fixture(scope="module")
def classifiers():
    loaded = {
        author: TokenClassifierPredictor.load(predictor_path(author), device="cpu")
        for author in SIDES
    }
    yield loaded
    for predictor in loaded.values():
        asyncio.run(predictor.aclose())


async def rows_of(models, predictors, *, chunk: int | None, tokens: int, cut: Any = "discard"):
    """Return the generated rows, and the number of prefetched requests."""
    under_way: set[InChunks] = set()
    engines = {author: InChunks(models[author], chunk, under_way) for author in SIDES}
    backends = {
        author: RoleBackend(
            renderer=RENDERERS[author], engine=engines[author],
            sampling=Sampling(temperature=0.0), request_tokens=tokens, context_tokens=4096,
        )
        for author in SIDES
    }  # fmt: skip
    context = SynthesisContext(
        backends=backends, strategy="tessy", answering="student", thinking_tokens=THINKING_TOKENS,
        answer_tokens=ANSWER_TOKENS, seed=1, predictors=predictors, cut=cut,
    )  # fmt: skip
    rows = []
    for index, problem in enumerate(PROBLEMS):
        attempt = SampleAttempt(
            context=context, problem=problem, sample=index, number=1,
            save=lambda pieces, state: None,
            checkpoint=lambda: None, progress=KeptTokens(),
        )  # fmt: skip
        row = await tessy(attempt)
        rows.append((row.thinking, row.spans, row.student_ids, row.forced, row.glued, row.answer))
    return rows, sum(engine.early for engine in engines.values())


CUTS = pytest.mark.parametrize("cut", ["discard", pytest.param("extend", marks=pytest.mark.long)])
# Tokens in a chunk (None: a request's tokens come at once, with its end) and in a request.
WAYS: dict[str, tuple[int | None, int]] = {
    "streamed in twos": (2, 64),
    "streamed in sevens": (7, 64),
    "whole requests of 64": (None, 64),
    "drafts of 20": (None, 20),
    "drafts of 5": (None, 5),
    "streamed, requests of 5": (1, 5),
}


@CUTS
async def test_a_classifier_ends_spans_at_the_same_places(models, classifiers, cut):
    expected, early = await rows_of(models, classifiers, chunk=1, tokens=64, cut=cut)
    assert any(len(spans) > 3 for _, spans, *_ in expected)
    assert early
    for way, (chunk, tokens) in WAYS.items():
        found, early = await rows_of(models, classifiers, chunk=chunk, tokens=tokens, cut=cut)
        assert found == expected, way
        assert chunk is not None or not early, way


@CUTS
async def test_the_lexicon_ends_spans_at_the_same_places(models, cut):
    lexicon = dict.fromkeys(SIDES, LexiconPredictor(Phrases.load()))
    expected, early = await rows_of(models, lexicon, chunk=1, tokens=64, cut=cut)
    assert any(len(spans) > 1 for _, spans, *_ in expected)
    assert not early  # it does not know what comes next
    for way, (chunk, tokens) in WAYS.items():
        found, _ = await rows_of(models, lexicon, chunk=chunk, tokens=tokens, cut=cut)
        assert found == expected, way
