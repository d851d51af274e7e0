"""Unusual replies of each wire format: unexpected values, errors, ends of texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tessy.core.errors import EngineMisconfigured, EngineRefused, EngineUnavailable
from tessy.inference.base import Chunk, Request, Sampling
from tessy.inference.http.faults import shortened, status_fault
from tessy.inference.http.metrics import CacheFacts, sglang_facts, vllm_facts
from tessy.inference.http.wires.base import BadReply, EventReader
from tessy.inference.http.wires.completions import CompletionsWire
from tessy.inference.http.wires.sglang import SglangReader
from tessy.inference.http.wires.text import ControlText, TextReader, TextWire
from tessy.inference.http.wires.vllm_generate import IdsReader
from tessy.inference.scripted import END_THINKING, EOS, OTHER_CONTROL, ByteCodec
from tessy.tokenization.token_ids import TokenIds
from tests.support.engine_requests import CODEC

# -- ids -------------------------------------------------------------------------------------------


def choice(ids: Any, reason: str | None = None, stop: Any = None) -> dict[str, Any]:
    return {"choices": [{"token_ids": ids, "finish_reason": reason, "stop_reason": stop}]}


def read_ids(event: dict[str, Any]) -> Chunk:
    return EventReader(IdsReader()).read([json.dumps(event).encode()])


def test_only_a_reply_with_its_usage_may_have_no_choice():
    assert read_ids({"choices": [], "usage": {"total_tokens": 3}}) == Chunk(())
    events: tuple[dict[str, Any], ...] = (
        {"choices": []},
        {"choices": [7]},
        {"choices": {}},
        {"usage": {"x": 1}},
        {},
    )
    for event in events:
        with pytest.raises(BadReply, match="without choices"):
            read_ids(event)


@pytest.mark.parametrize("ids", [[True], [1, None], ["1"], [1.0], "1", {"1": 1}])
def test_token_ids_are_integers(ids):
    with pytest.raises(BadReply, match="not a list of integers"):
        read_ids(choice(ids))


@pytest.mark.parametrize(
    ("stop", "chunk"),
    [
        (None, Chunk((7, 8), "stop", 9)),  # vLLM at the end of a turn
        (9, Chunk((7, 8), "stop", 9)),
        (5, Chunk((7, 8, 9), "stop", 5)),  # the server omits the stop id
        ("</s>", Chunk((7, 8), "stop", 9)),
    ],
)
def test_a_stop_id_is_removed_only_from_the_end_of_a_reply(stop, chunk):
    assert read_ids(choice([7, 8, 9], "stop", stop)) == chunk


def test_a_stop_without_ids_is_read():
    assert read_ids(choice([], "stop")) == Chunk((), "stop", None)
    assert read_ids(choice([], "stop", 9)) == Chunk((), "stop", 9)


@pytest.mark.parametrize("reason", ["abort", "error", "content_filter", ""])
def test_an_unknown_finish_reason_is_temporary(reason):
    with pytest.raises(EngineUnavailable, match=f"finish reason '{reason}'"):
        read_ids(choice([7], reason))


def test_an_event_that_repeats_the_keys_of_a_choice_is_read_as_json():
    ended = choice([7], "stop") | {"stats": {"finish_reason": None}}
    assert read_ids(ended) == Chunk((), "stop", 7)
    assert read_ids({"prompt": {"token_ids": [1]}} | choice([7])) == Chunk((7,))
    assert read_ids(choice([7]) | {"prompt": {"token_ids": [1]}}) == Chunk((7,))


# -- SGLang ----------------------------------------------------------------------------------------


def sglang(ids: list[int], count: Any, reason: Any = None) -> dict[str, Any]:
    return {"output_ids": ids, "meta_info": {"completion_tokens": count, "finish_reason": reason}}


@pytest.mark.parametrize("count", [None, "1", 1.0, True])
def test_sglang_must_count_its_tokens(count):
    with pytest.raises(BadReply, match="completion_tokens"):
        SglangReader().read(sglang([7], count))
    for event in ({"output_ids": [7]}, {"output_ids": [7], "meta_info": [1]}):
        with pytest.raises(BadReply, match="completion_tokens"):
            SglangReader().read(event)


def test_sglang_must_not_count_more_tokens_than_it_sends():
    reader = SglangReader()
    assert reader.read(sglang([7], 1)) == Chunk((7,))
    with pytest.raises(BadReply, match="3 new tokens by count, but only 2 ids"):
        reader.read(sglang([8, 9], 4))


@pytest.mark.parametrize(
    ("status", "kind"), [(400, EngineRefused), (500, EngineUnavailable), (None, EngineUnavailable)]
)
def test_an_abort_of_sglang_is_permanent_only_if_the_request_caused_it(status, kind):
    reason = {"type": "abort", "message": "why", "status_code": status}
    with pytest.raises(kind, match="SGLang aborted the request: why") as raised:
        SglangReader().read(sglang([7], 1, reason))
    assert type(raised.value) is kind


@pytest.mark.parametrize(("code", "kind"), [(400, EngineRefused), (503, EngineUnavailable)])
def test_an_error_of_sglang_beside_ids_is_an_error(code, kind):
    event = sglang([7], 1) | {"error": {"message": "why", "code": code}}
    with pytest.raises(kind, match="why") as raised:
        SglangReader().read(event)
    assert type(raised.value) is kind


def test_a_stop_id_that_sglang_leaves_in_the_ids_is_removed():
    for matched, chunk in [(9, Chunk((7,), "stop", 9)), ("x", Chunk((7, 9), "stop", None))]:
        reason = {"type": "stop", "matched": matched}
        assert SglangReader().read(sglang([7, 9], 2, reason)) == chunk


# -- text ------------------------------------------------------------------------------------------


def read_text(*parts: str, reason: str = "length", stops: tuple[int, ...] = (EOS,)) -> list[Chunk]:
    reader = TextReader(ControlText(CODEC), stops)
    reasons = [None] * (len(parts) - 1) + [reason]
    return [
        reader.read({"choices": [{"text": part, "finish_reason": one}]})
        for part, one in zip(parts, reasons, strict=True)
    ]


@pytest.mark.parametrize("end", ["<", "</thin", "<eos"])
def test_buffered_text_is_read_when_the_reply_ends(end):
    assert read_text("a" + end) == [Chunk((97, *end.encode()), "length")]
    assert read_text("a" + end, "b") == [Chunk((97,)), Chunk((*end.encode(), 98), "length")]
    assert read_text("a" + end, "", reason="stop")[1] == Chunk(tuple(end.encode()), "stop", None)


def test_a_control_token_in_pieces_is_one_id():
    assert read_text("a</th", "ink", ">b") == [
        Chunk((97,)),
        Chunk(()),
        Chunk((END_THINKING, 98), "length"),
    ]
    ended = read_text("a<e", "os>b", stops=(END_THINKING, EOS))
    assert ended == [Chunk((97,)), Chunk((), "stop", EOS)]


class Nested(ByteCodec):
    """A codec in which the text of one control token is a prefix of another's."""

    def token_bytes(self, token_id: int) -> bytes:
        return b"<eos>>" if token_id == OTHER_CONTROL else super().token_bytes(token_id)


def test_the_longest_control_token_is_read():
    text = ControlText(Nested())
    assert text.encode("<eos>>") == [OTHER_CONTROL]
    assert text.encode("<eos>") == [EOS]
    assert text.settled("a<eos>") == 1
    assert text.settled("a<eos>b") == 7


@pytest.mark.parametrize("text", [None, 7, ["a"]])
def test_a_choice_without_text_is_a_bad_reply(text):
    with pytest.raises(BadReply, match="a choice without text"):
        TextReader(ControlText(CODEC), ()).read({"choices": [{"text": text}]})


@pytest.mark.parametrize("seed", [2**31 - 1, 2**31, 2**62 + 7, 2**63 - 1, 2**63, 2**70 + 5])
def test_seeds_fit_the_integers_of_their_server(seed):
    request = Request("k", TokenIds([65]), Sampling(), 9, (EOS,), seed)
    by_ids = json.loads(CompletionsWire("tiny").body(request, stream=True))
    by_text = json.loads(TextWire("tiny", CODEC).body(request, stream=True))
    assert (by_ids["seed"], by_text["seed"]) == (seed % 2**63, seed % 2**31)


# -- statuses and metrics --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 410, 501])
def test_a_permanent_status_is_a_misconfiguration(status):
    fault = status_fault("POST", "http://h/x", status, "why", {"retry-after": "1"})
    assert isinstance(fault, EngineMisconfigured)
    assert fault.status == status
    assert f"answered {status}: why; " in str(fault)


def test_the_first_200_characters_of_a_reply_are_shown_on_one_line():
    assert shortened(" a\n\n b\t") == "a b"
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 201) == "x" * 200 + "…"


def info(**labels: str) -> str:
    named = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"vllm:cache_config_info{{{named}}} 1.0\n"


def test_the_capacity_is_known_if_every_engine_of_vllm_reports_its_own():
    one, two = info(kv_cache_size_tokens="16"), info(kv_cache_size_tokens="32")
    assert vllm_facts(one + two) == CacheFacts(48, None, 2)
    assert vllm_facts(one + info(kv_cache_size_tokens="None")) == CacheFacts(None, None, 2)
    assert vllm_facts(info(kv_cache_size_tokens="0")).capacity_tokens is None
    assert vllm_facts(info(num_gpu_blocks="9")).capacity_tokens is None


@pytest.mark.parametrize(
    ("reported", "capacity", "caching"),
    [
        ({"max_total_num_tokens": 64, "disable_radix_cache": False}, 64, True),
        ({"max_total_num_tokens": 0, "disable_radix_cache": True}, None, False),
        ({"max_total_num_tokens": True, "disable_radix_cache": None}, None, None),
        ({"max_total_num_tokens": "64", "disable_radix_cache": 0}, None, None),
        ({}, None, None),
    ],
)
def test_the_cache_figures_of_sglang(reported, capacity, caching):
    facts = sglang_facts(reported)
    assert (facts.capacity_tokens, facts.prefix_caching) == (capacity, caching)
    assert any("--disable-radix-cache" in note for note in facts.notes) == (caching is False)
