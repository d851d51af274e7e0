"""The chat client over real HTTP: requests, replies, and faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tessy.core.errors import ConfigError, EngineMisconfigured, EngineUnavailable, SampleFailed
from tessy.core.records import Message
from tessy.inference.base import Sampling
from tessy.inference.chat import ChatEngine, ChatPool, ChatReply, ChatRequest
from tessy.inference.pool.retry import FAILURES_TO_MOVE
from tests.support.chat_server import FakeChat, Fault, completion
from tests.support.model_server import eventually
from tests.support.replicas import healthy

SCHEMA = {"type": "array", "items": {"type": "string"}}
SAMPLING = Sampling(temperature=0.6, top_p=0.9, top_k=30, min_p=0.01)
ALL_FIELDS = {"chat_template_kwargs", "top_k", "min_p", "response_format"}


async def sleep_briefly(seconds: float) -> None:
    await asyncio.sleep(seconds / 500)


def make_request(key: str = "a/0/0", seed: int = 2**62 + 5) -> ChatRequest:
    return ChatRequest(key, (Message(role="user", content="Say yes."),), SAMPLING, 50, seed)


@asynccontextmanager
async def pool_over(*servers: FakeChat, **options: Any) -> AsyncGenerator[ChatPool, None]:
    engine: dict[str, Any] = {"schema": SCHEMA, "stall_seconds": 5.0, "seconds_per_token": 0.0}
    named = ("api_key", "concurrency", "stall_seconds", "schema")
    engine |= {name: options.pop(name) for name in named if name in options}
    engines = [ChatEngine(server.url, "strong", **engine) for server in servers]
    names = [server.url for server in servers]
    async with ChatPool(engines, names, role="annotator", sleep=sleep_briefly, **options) as pool:
        yield pool


async def test_a_request_contains_every_sampling_value():
    with FakeChat(lambda body: "yes") as server:
        async with pool_over(server) as pool:
            assert (await pool.probe()).notes == ()
            assert await pool.reply(make_request()) == ChatReply("yes", truncated=False)
        (body,) = server.seen
        assert 0 <= body.pop("seed") < 2**31
        assert body == {
            "model": "strong",
            "messages": [{"role": "user", "content": "Say yes."}],
            "max_tokens": 50,
            "temperature": 0.6,
            "top_p": 0.9,
            "top_k": 30,
            "min_p": 0.01,
            "chat_template_kwargs": {"enable_thinking": False},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA},
            },
        }
        assert server.probes == 1


async def test_without_a_schema_nothing_is_guided():
    with FakeChat(lambda body: "yes") as server:
        async with pool_over(server, schema=None) as pool:
            await pool.reply(make_request())
        assert "response_format" not in server.seen[0]


async def test_seeds_differ_and_top_k_without_a_limit_is_minus_one():
    with FakeChat(lambda body: "yes") as server:
        async with pool_over(server) as pool:
            for seed in (1, 2):
                free = Sampling(top_k=0)
                await pool.reply(ChatRequest("k", make_request().messages, free, 5, seed))
        assert [body["seed"] for body in server.seen] == [1, 2]
        assert {body["top_k"] for body in server.seen} == {-1}


@pytest.mark.parametrize(
    ("refused", "missing"),
    [
        ({"chat_template_kwargs"}, {"chat_template_kwargs"}),
        ({"top_k"}, {"top_k", "min_p"}),
        ({"response_format"}, {"response_format"}),
        ({"min_p", "chat_template_kwargs"}, {"top_k", "min_p", "chat_template_kwargs"}),
        (
            {"response_format", "chat_template_kwargs"},
            {"response_format", "chat_template_kwargs"},
        ),
        (ALL_FIELDS, ALL_FIELDS),
    ],
)
async def test_fields_that_a_server_refuses_are_detected_once_and_omitted(refused, missing):
    with FakeChat(lambda body: "yes", refuses=frozenset(refused)) as server:
        async with pool_over(server) as pool:
            notes = " ".join((await pool.probe()).notes)
            probes = server.probes
            for _ in range(3):
                assert (await pool.reply(make_request())).text == "yes"
        assert server.probes == probes
        assert all(ALL_FIELDS - set(body) == missing for body in server.seen)
        assert all(field in notes for field in missing)


async def test_a_server_that_refuses_everything_is_misconfigured():
    with FakeChat(refuses=frozenset({"messages"})) as server:
        async with pool_over(server) as pool:
            with pytest.raises(EngineMisconfigured, match=r"even a plain chat request.*messages"):
                await pool.probe()


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<think>\nHm [1].\n</think>\n\n[]", "[]"),
        ("<think>\n\n</think>\n\n[]", "[]"),
        ("Hm.\n</think>\n[]", "[]"),
        ("[] and <think> of </think> it", "[] and <think> of </think> it"),
        ('["of </think> it"]', '["of </think> it"]'),
        ("<think> without end", "<think> without end"),
    ],
)
async def test_thoughts_before_a_reply_are_removed(reply, text):
    with FakeChat(lambda body: reply) as server:
        async with pool_over(server) as pool:
            assert (await pool.reply(make_request())).text == text


@pytest.mark.parametrize("content", ["[", None])
async def test_a_reply_at_its_token_limit_is_marked_as_truncated(content):
    with FakeChat() as server:
        server.faults = [Fault("reply", body=json.dumps(completion(content, "length")))]
        async with pool_over(server) as pool:
            assert await pool.reply(make_request()) == ChatReply(content or "", truncated=True)


async def test_half_a_surrogate_pair_is_replaced():
    with FakeChat() as server:
        body = '{"choices": [{"message": {"content": "a\\ud800b\\ud83d\\ude00"}}]}'
        server.faults = [Fault("reply", body=body)]
        async with pool_over(server) as pool:
            assert (await pool.reply(make_request())).text == "a�b😀"


UNUSABLE = [
    Fault("reply", body="no json"),
    Fault("reply", body="[]"),
    Fault("reply", body="{}"),
    Fault("reply", body='{"choices": []}'),
    Fault("reply", body='{"choices": [{"message": {"content": 3}}]}'),
    Fault("reply", body='{"choices": [{"message": null}]}'),
    Fault("cut"),
    Fault("status", status=503),
    Fault("status", status=500),
]


@pytest.mark.parametrize("fault", UNUSABLE)
async def test_temporary_failures_are_retried(fault):
    with FakeChat(lambda body: "yes") as server:
        server.faults = [fault, fault]
        async with pool_over(server) as pool:
            assert (await pool.reply(make_request())).text == "yes"
        assert len(server.seen) == 3


async def test_retry_after_is_honoured():
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    with FakeChat(lambda body: "yes") as server:
        server.faults = [Fault("status", status=429, headers={"Retry-After": "7"})]
        engine = ChatEngine(server.url, "strong")
        async with ChatPool([engine], [server.url], sleep=sleep) as pool:
            assert (await pool.reply(make_request())).text == "yes"
    assert sum(waits) == 7.0


async def test_a_hanging_server_is_replaced_by_another():
    with FakeChat(lambda body: "yes") as slow, FakeChat(lambda body: "yes") as quick:
        slow.faults = [Fault("hang")] * 9
        async with pool_over(slow, quick, stall_seconds=0.2) as pool:
            await pool.probe()
            keys = (str(index) for index in range(1000))
            unlucky = next(key for key in keys if pool.assign(key) == slow.url)
            assert (await pool.reply(make_request(unlucky))).text == "yes"
        assert (len(slow.seen), len(quick.seen)) == (FAILURES_TO_MOVE, 1)


async def test_a_request_with_only_unusable_replies_fails_alone():
    def script(body: dict[str, Any]) -> str | Fault:
        poisoned = body["messages"][0]["content"] == "broken"
        return Fault("reply", body="no json") if poisoned else "yes"

    broken = replace(make_request("broken"), messages=(Message(role="user", content="broken"),))
    with FakeChat(script) as server:
        async with pool_over(server) as pool:
            pending = asyncio.create_task(pool.reply(broken))
            while not pending.done():
                assert (await pool.reply(make_request("fine"))).text == "yes"
            with pytest.raises(SampleFailed) as caught:
                await pending
    assert caught.value.reason == "server_error"


async def test_a_refusal_fails_the_request():
    with FakeChat() as server:
        server.faults = [Fault("status", status=422)]
        async with pool_over(server) as pool:
            with pytest.raises(SampleFailed, match="422") as caught:
                await pool.reply(make_request())
    assert caught.value.reason == "refused"


async def test_a_wrong_key_or_model_stops_at_once(monkeypatch):
    with FakeChat(api_key="secret") as server:
        async with pool_over(server, api_key="guess") as pool:
            with pytest.raises(EngineMisconfigured, match="401"):
                await pool.probe()
        async with pool_over(server, api_key="secret") as pool:
            await pool.probe()
            server.model = "other"
            with pytest.raises(EngineMisconfigured, match="404"):
                await pool.reply(make_request())


async def test_a_short_outage_is_waited_out_and_a_long_one_is_an_error():
    with FakeChat(lambda body: "yes") as server:
        async with pool_over(server) as pool:
            await pool.probe()
            server.stop()
            waiting = asyncio.create_task(pool.reply(make_request()))
            await eventually(lambda: not healthy(pool))
            server.refuses = frozenset({"top_k"})  # restarted without this field
            server.start()
            assert (await waiting).text == "yes"
            assert "min_p" not in server.seen[-1]
            server.stop()
        async with pool_over(server, patience_seconds=0.05) as pool:
            with pytest.raises(EngineUnavailable, match="nothing came from"):
                await pool.reply(make_request())


async def test_each_server_has_its_own_limit():
    with FakeChat(lambda body: "yes") as one, FakeChat(lambda body: "yes") as two:
        async with pool_over(one, two, concurrency=2) as pool:
            await pool.probe()
            one.hold()
            two.hold()
            work = [
                asyncio.create_task(pool.reply(make_request(str(index)))) for index in range(12)
            ]
            await eventually(lambda: one.busy == two.busy == 2)
            one.go()
            two.go()
            await asyncio.gather(*work)
        assert (one.peak, two.peak) == (2, 2)
        assert len(one.seen) + len(two.seen) == 12


async def test_a_finished_request_leaves_no_state_in_the_pool():
    with FakeChat(lambda body: "yes") as server:
        async with pool_over(server) as pool:
            for index in range(5):
                await pool.reply(make_request(str(index)))
            assert [replica.samples for replica in pool._replicas] == [0]


def test_an_url_is_checked_at_once():
    with pytest.raises(ConfigError, match="not a server URL"):
        ChatEngine("localhost", "strong")
