"""The framing of replies, cut anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.engines.http_framing import Framing
from tessy.engines.wire_base import BadReply

HEAD = b"HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Kind:  some \t\r\n"


def cut(reply: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(reply) + 1) for place in places)
    return [reply[a:b] for a, b in itertools.pairwise([0, *ends, len(reply)]) if a < b]


def read(packets: Iterable[bytes]) -> tuple[bytes, Framing]:
    framing = Framing()
    return b"".join([framing.feed(packet) for packet in packets]), framing


def chunked(parts: list[bytes], extension: bytes, trailers: bytes) -> bytes:
    chunks = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts]
    return b"".join([*chunks, b"0\r\n", trailers, b"\r\n"])


places = st.lists(st.integers(0, 10_000), max_size=20)
parts = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
interim = st.sampled_from(
    [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\n"]
)


@given(
    parts, places, interim,
    st.sampled_from([b"", b";x", b';x=1;y="2"', b" "]),
    st.sampled_from([b"", b"X-Sum: 1\r\n", b"X-Sum: 1\r\nX-Kind: none\r\n"]),
)  # fmt: skip
def test_chunks_cut_anywhere_are_the_same_body(parts, places, interim, extension, trailers):
    body = chunked(parts, extension, trailers)
    reply = interim + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body
    packets = cut(reply, places)
    whole, framing = read(packets)
    assert whole == b"".join(parts)
    assert (framing.whole, framing.keeps, framing.endless) == (True, True, False)
    assert framing.headers == {"x-empty": "", "x-kind": "some", "transfer-encoding": "chunked"}
    early, framing = read([*packets[:-1], packets[-1][:-1]])
    assert (early, framing.whole) == (whole, False)


@given(st.binary(max_size=200), places, interim)
def test_a_body_of_a_known_length_cut_anywhere(body, places, interim):
    packets = cut(interim + HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, places)
    whole, framing = read(packets)
    assert (whole, framing.whole, framing.keeps, framing.endless) == (body, True, True, False)
    assert framing.status == 200


@given(st.binary(max_size=200), places, interim)
def test_a_body_up_to_the_end_of_the_connection_cut_anywhere(body, places, interim):
    whole, framing = read(cut(interim + HEAD + b"\r\n" + body, places))
    assert (whole, framing.whole, framing.keeps, framing.endless) == (body, False, False, True)


@given(
    places,
    st.sampled_from([b"", b"Connection: close\r\n"]),
    st.sampled_from([b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", b"<html>", b"HTTP/1.1 1"]),
)
def test_what_follows_a_reply_is_not_of_it(places, connection, more):
    reply = HEAD + connection + b"Content-Length: 3\r\n\r\nyes"
    whole, framing = read(cut(reply + more, [*places, len(reply) + 1]))
    assert (whole, framing.status, framing.whole, framing.keeps) == (b"yes", 200, True, False)
    assert framing.headers["content-length"] == "3"


@pytest.mark.parametrize(("head", "keeps"), [
    (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", True),
    (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
])  # fmt: skip
def test_a_head_that_is_the_whole_reply(head, keeps):
    body, framing = read([head])
    assert (body, framing.whole, framing.keeps) == (b"", True, keeps)


@pytest.mark.parametrize("reply", [
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"HTTP/1.1 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    HEAD + b"Content-Length: many\r\n\r\n",
    HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
])  # fmt: skip
def test_what_is_no_http_is_shown(reply):
    with pytest.raises(BadReply) as caught:
        read([reply])
    assert repr(reply[:100]) in str(caught.value)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX-", HEAD + b"X: "])
def test_a_head_without_an_end_is_given_up(start):
    with pytest.raises(BadReply, match="exceeds 65536 bytes"):
        read([start, *[b"a" * 1000] * 100])


def test_replies_that_announce_another_do_not_go_on_forever():
    with pytest.raises(BadReply, match="exceeds 65536 bytes"):
        read([b"HTTP/1.1 100 Continue\r\n\r\n"] * 10_000)
