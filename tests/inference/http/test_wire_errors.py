"""Errors and unexpected values in replies, by wire format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tessy.core.errors import EngineRefused, EngineUnavailable
from tessy.inference.base import Request, Sampling
from tessy.inference.http.wires.base import EventReader, raise_event_error
from tessy.inference.http.wires.sglang import SglangReader, SglangWire
from tessy.inference.http.wires.text import ControlText
from tessy.inference.http.wires.vllm_generate import IdsReader
from tessy.inference.scripted import EOS
from tessy.tokenization.token_ids import TokenIds
from tests.support.engine_requests import CODEC


def test_an_error_beside_token_ids_is_an_error():
    event = {
        "error": {"code": 500, "message": "out of memory"},
        "choices": [{"finish_reason": None, "token_ids": [7]}],
    }
    with pytest.raises(EngineUnavailable, match="out of memory"):
        EventReader(IdsReader()).read([json.dumps(event).encode()])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, EngineRefused),
        (413, EngineRefused),
        (422, EngineRefused),
        (429, EngineUnavailable),
        (500, EngineUnavailable),
        (None, EngineUnavailable),
    ],
)
def test_the_code_of_an_error_in_a_reply_decides_whether_it_is_temporary(code, kind):
    with pytest.raises(kind) as raised:
        raise_event_error({"code": code, "message": "why"})
    assert type(raised.value) is kind


@pytest.mark.parametrize("seed", [2**31 - 1, 2**31, 2**31 + 5, 2**62 + 7])
def test_sglang_gets_a_seed_of_31_bits(seed):
    request = Request("k", TokenIds([1]), Sampling(), 9, (EOS,), seed)
    sent = json.loads(SglangWire().body(request, stream=True))
    assert sent["sampling_params"]["sampling_seed"] == seed % 2**31


def sglang(ids: list[int], count: int) -> dict[str, Any]:
    return {
        "output_ids": ids,
        "meta_info": {"completion_tokens": count, "finish_reason": None},
    }


def test_a_decreasing_token_count_of_sglang_repeats_no_token():
    reader = SglangReader()
    assert reader.read(sglang([5, 6, 7], 3)).ids == (5, 6, 7)
    assert reader.read(sglang([5, 6], 2)).ids == ()
    assert reader.read(sglang([5, 6, 7], 3)).ids == ()
    assert reader.read(sglang([5, 6, 7, 8], 4)).ids == (8,)


@pytest.mark.parametrize("token", ["</think>", "<eos>", "<mark>"])
def test_every_prefix_of_a_control_token_is_buffered(token):
    text = ControlText(CODEC)
    for length in range(1, len(token)):
        assert text.settled("x" + token[:length]) == 1
    assert text.settled("x" + token) == 1 + len(token)
