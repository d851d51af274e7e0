"""Whole samples on servers with text only, most of which do not report what ended a reply."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tessy.core.errors import SampleFailed
from tessy.core.records import Author
from tessy.inference.http.engine import HttpEngine
from tessy.synthesis.strategies.tessy import tessy
from tessy.tokenization.token_ids import decode
from tests.support.model_server import LLAMA_CPP, PLAIN_OPENAI, TEXT_ONLY, FakeServer, Script
from tests.synthesis.test_sample import (
    ANSWER,
    PROBLEM,
    RENDERERS,
    THINKING,
    make_attempt,
    make_context,
    script,
)

NAMES: dict[Author, str] = {"student": "qwen3", "teacher": "harmony"}
SERVERS = pytest.mark.parametrize("can", [PLAIN_OPENAI, LLAMA_CPP, TEXT_ONLY])


def on_a_server(name: str, *, ends_early: bool = False) -> Script:
    """Return a script that continues past every stop, as a model does; no ids for a probe."""
    renderer = RENDERERS[name]
    prompt = renderer.prompt_text(PROBLEM.messages)
    closing = renderer.shape.closing.lstrip()
    write = script(renderer)

    def reply(ids: Sequence[int], seed: int) -> list[int]:
        text = decode(renderer.codec, ids)
        if not text.startswith(prompt):
            return []
        written = text.removeprefix(prompt)
        own: list[int] = write(written.encode(), seed)
        if closing in written:
            return own[:-1]  # the server ends the turn itself
        if ends_early:
            return own[:1]
        return [*own, *renderer.codec.encode("\n\n" + ANSWER)]

    return reply


async def make(can: frozenset[str], *, streams: bool = True, ends_early: bool = False):
    context = make_context(NAMES["student"], NAMES["teacher"])
    async with AsyncExitStack() as stack:
        for author, name in NAMES.items():
            codec = RENDERERS[name].codec
            server = await stack.enter_async_context(
                FakeServer(
                    on_a_server(name, ends_early=ends_early), can=can, codec=codec,
                    eos=min(RENDERERS[name].answer_stop_ids), streams=streams,
                )
            )  # fmt: skip
            engine = HttpEngine(server.url, "tiny", codec, streaming=streams)
            stack.push_async_callback(engine.aclose)
            assert (await engine.probe()).mode == "text"
            context.backends[author] = replace(
                context.backends[author], engine=engine, native_ids=False
            )
        return await tessy(make_attempt(context))


@SERVERS
@pytest.mark.parametrize("streams", [True, False])
async def test_thinking_ends_at_the_marker_in_the_text(can, streams):
    row = await make(can, streams=streams)
    assert row.thinking == THINKING
    assert row.answer == ANSWER
    assert {span.author for span in row.spans} == {"student", "teacher"}


@SERVERS
async def test_the_end_of_a_turn_is_not_the_end_of_the_thinking(can):
    with pytest.raises(SampleFailed) as failure:
        await make(can, ends_early=True)
    assert failure.value.reason == "eos_in_thinking"
