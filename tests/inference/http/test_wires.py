"""The pure parts of the HTTP engine: events, control tokens in text, metrics, bodies."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.inference.base import Chunk, Request, Sampling
from tessy.inference.http.metrics import CacheFacts, vllm_facts
from tessy.inference.http.reply import EventSplitter
from tessy.inference.http.wires.base import BadReply, EventReader, neutral_sampling
from tessy.inference.http.wires.text import ControlText
from tessy.inference.http.wires.vllm_generate import GenerateWire, IdsReader
from tessy.inference.scripted import EOS
from tessy.tokenization.token_ids import TokenIds, decode
from tests.support.engine_requests import CODEC


@given(
    events=st.lists(st.binary(max_size=20).map(lambda b: b.hex().encode()), max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    newline=st.sampled_from([b"\n", b"\r\n"]),
)
def test_events_do_not_depend_on_how_the_bytes_are_split(events, cuts, newline):
    data = b": hello" + newline * 2
    for event in events:
        data += b"event: x" + newline + b"data: " + event + newline * 2
    splitter = EventSplitter()
    got = []
    position = 0
    for cut in [*sorted(cuts), len(data)]:
        got += splitter.feed(data[position:cut])
        position = max(position, cut)
    assert got == events


def test_lines_of_an_event_are_joined_and_an_unterminated_last_event_is_read():
    splitter = EventSplitter()
    assert splitter.feed(b"data: {\ndata: }\n\ndata: [DONE]") == [b"{\n}"]
    assert splitter.finish() == [b"[DONE]"]


@given(st.lists(st.sampled_from(["a", "<", "</", "think>", "</think>", "<eos>", "ü", ">"])))
def test_control_text_reads_back_what_it_spells(parts):
    text = ControlText(CODEC)
    ids = text.encode("".join(parts))
    assert decode(CODEC, ids) == "".join(parts)
    assert text.encode("") == []
    held = "".join(parts)[text.settled("".join(parts)) :]
    assert held == "" or any(s.startswith(held) for s in ("</think>", "<eos>", "<mark>"))


def test_the_capacity_of_old_vllm_is_computed_from_blocks():
    line = 'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1.0'
    assert vllm_facts(f"# HELP x\n{line}\n").capacity_tokens == 1600
    assert vllm_facts("something else") == CacheFacts()
    unknown = line.replace('"100"', '"None"')
    assert vllm_facts(unknown).capacity_tokens is None


def test_a_request_is_valid_json_without_serialising_the_prompt():
    class Loud(TokenIds):
        @property
        def ids(self):
            raise AssertionError("the ids were touched")

    prompt = Loud([1, 2, 3])
    request = Request("k", prompt, Sampling(), 9, (EOS,), 3)
    assert json.loads(GenerateWire("tiny").body(request, stream=True))["token_ids"] == [1, 2, 3]


def test_a_request_body_has_its_own_values_after_other_requests():
    wire = GenerateWire("tiny")
    base = Request("k", TokenIds([1]), Sampling(), 9, (EOS,), 3)
    variants = [
        replace(base, max_tokens=8),
        replace(base, seed=4),
        replace(base, stop_ids=()),
        replace(base, sampling=Sampling(temperature=0.5)),
        replace(base, prompt=TokenIds([2])),
    ]
    for request in (base, *variants):
        for stream in (True, False):
            sent = json.loads(wire.body(request, stream=stream))
            assert sent == {
                "model": "tiny",
                "stream": stream,
                "sampling_params": {
                    **neutral_sampling(request), "seed": request.seed, "detokenize": False
                },
                "token_ids": list(request.prompt.ids),
            }  # fmt: skip


def event(ids: str, finish: str = "null", **more: object) -> bytes:
    rest = "".join(f', "{name}": {value}' for name, value in more.items())
    return f'{{"choices": [{{"finish_reason": {finish}, "token_ids": [{ids}]{rest}}}]}}'.encode()


@pytest.mark.parametrize("ids", ["7", "7, 8", "7,8,9", "", "123456789, 0"])
@pytest.mark.parametrize(
    "more", [{}, {"text": '"\\"token_ids\\": [1]"'}, {"prompt_token_ids": [5]}]
)
def test_the_fast_path_reads_the_same_ids_as_json(ids, more):
    payload = event(ids, **more)
    expected = IdsReader().read(json.loads(payload))
    assert EventReader(IdsReader()).read([payload]) == expected
    assert expected.ids == tuple(json.loads(f"[{ids}]"))


@pytest.mark.parametrize("ids", ["99999999999", "2147483648", "-1", "1.5", '"7"'])
def test_ids_that_no_model_has_are_a_bad_reply(ids):
    with pytest.raises(BadReply):
        EventReader(IdsReader()).read([event(ids)])


@given(st.lists(st.sampled_from([event("7"), event("8"), event("7, 8"), event("")]), max_size=6))
def test_events_of_one_packet_are_read_in_order(events):
    alone = EventReader(IdsReader())
    ids = [i for payload in events for i in alone.read([payload]).ids]
    assert EventReader(IdsReader()).read(events) == Chunk(tuple(ids))
    ended = EventReader(IdsReader()).read([*events, event("5, 9", finish='"stop"'), event("6")])
    assert ended == Chunk((*ids, 5), "stop", 9)
