"""``tessy annotate`` with a real vLLM's chat endpoint: guided replies, fields, faults."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from tessy.boundary.annotation.annotate import annotate
from tessy.boundary.annotation.directory import ANNOTATIONS
from tessy.boundary.annotation.instruction import SCHEMA, parse, prompt
from tessy.config.base import SamplingConfig
from tessy.config.predictors import AnnotateConfig
from tessy.core.errors import EngineMisconfigured, SampleFailed, TessyError
from tessy.core.records import Message
from tessy.inference.base import Sampling
from tessy.inference.chat import ChatEngine, ChatPool, ChatReply, ChatRequest
from tessy.storage.run_reader import iter_failed_rows, iter_rows
from tests.support.rows import fill, row
from tests.vllm.servers import CONTEXT_TOKENS, Servers, VllmServer

pytestmark = pytest.mark.vllm

THINKING = "Okay, so 3 + 4 = 7. But wait, 7 + 5 = 12. Hmm, let me see. So the answer is 12. " * 6
WILD = Sampling(temperature=2.0, top_p=1.0, top_k=0)


def pool_of(server: VllmServer, model: str | None = None, *, guided: bool = True) -> ChatPool:
    engine = ChatEngine(server.url, model or server.name, schema=SCHEMA if guided else None)
    return ChatPool([engine], [server.url], role="annotator", patience_seconds=60)


def question(seed: int, *, max_tokens: int = 200) -> ChatRequest:
    asked = Message(role="user", content=prompt("Okay, so 3 + 4 = 7."))
    return ChatRequest(f"q/{seed}", (asked,), WILD, max_tokens, seed)


async def test_every_reply_that_ends_is_an_array_of_strings(servers: Servers):
    async with pool_of(servers.student) as pool:
        assert (await pool.probe()).notes == ()
        replies = await asyncio.gather(*(pool.reply(question(seed)) for seed in range(32)))
    # White space may fill a reply up to its limit: no grammar forbids it.
    whole = [reply for reply in replies if not reply.truncated]
    assert whole
    assert all(isinstance(parse(reply.text), list) for reply in whole)
    assert all(reply.text.lstrip()[:1] in ("", "[") for reply in replies)
    async with pool_of(servers.student, guided=False) as pool:
        free = [await pool.reply(question(seed)) for seed in (1, 2, 1)]
    assert not any(reply.text.lstrip().startswith("[") for reply in free)
    assert free[0] == free[2] != free[1]  # the server honours seeds


async def test_truncation_a_wrong_model_and_a_refusal_are_distinguished(servers: Servers):
    async with pool_of(servers.student) as pool:
        cut = await pool.reply(question(0, max_tokens=2))
        assert isinstance(cut, ChatReply)
        assert cut.truncated
        with pytest.raises(SampleFailed) as caught:
            await pool.reply(question(0, max_tokens=2 * CONTEXT_TOKENS))
        assert caught.value.reason == "refused"
    async with pool_of(servers.student, "nobody") as pool:
        with pytest.raises(EngineMisconfigured, match="nobody"):
            await pool.probe()


def test_every_segment_gets_a_row(servers: Servers, tmp_path: Path):
    fill(tmp_path / "responses", *(row(f"q{n}", thinking=f"{n}. {THINKING}") for n in range(3)))
    asked = AnnotateConfig(
        responses=tmp_path / "responses",
        out=tmp_path / "out",
        model="student",
        url=(servers.student.url,),
        sampling=SamplingConfig(temperature=1.0, top_p=1.0, top_k=0),
        segment_words=20,
        segments=8,
    )
    output = io.StringIO()
    try:
        annotate(asked, Console(file=output))
        refusal = None
    except TessyError as error:  # such a tiny model may list no string of the segment
        refusal = str(error)
    accepted = list(iter_rows(asked.out, ANNOTATIONS))
    failed = list(iter_failed_rows(asked.out, ANNOTATIONS))
    assert len(accepted) + len(failed) == 8
    assert (refusal is None) == bool(accepted)
    assert {item.reason for item in failed} <= {"not_found", "truncated"}
    assert "Acceptance rate" in output.getvalue()
