"""A reply cut into any packets brings what it brings as one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.engines.base import Chunk, Tap
from tessy.engines.http_connection import Connection, Exchange
from tessy.engines.http_packets import Packets
from tessy.engines.wire_base import EventReader, Reader
from tessy.engines.wire_generate import IdsReader

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SEVENS = ("7", "8", "12345", "123456789")
ODD = ("7, 8", "", "2147483648", "-1", "+1", "007", "1.5")


def event(ids: str, finish: str = "null", more: str = "", end: str = "\n\n") -> bytes:
    choice = f'{{"finish_reason": {finish}, "token_ids": [{ids}]{more}}}'
    return f'data: {{"choices": [{choice}]}}{end}'.encode()


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Wire:
    """What a connection writes to; it never fails."""

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.sent = parts

    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


async def read(packets: list[bytes], reader: Reader | None = None) -> tuple[list[Chunk], object]:
    chunks: list[Chunk] = []
    connection = Connection(lambda *_: None)
    connection.use(Wire())
    exchange = Exchange((b"", b""), reader or IdsReader(), Tap(chunks.append))
    connection.start(exchange, 10.0)
    for packet in packets:
        if connection.exchange is not None:
            connection.data_received(packet)
    connection.leave()
    error = exchange.done.exception() if exchange.done.done() else None
    return chunks, (type(error), exchange.finished)


def ids(chunks: list[Chunk]) -> list[int]:
    return [token_id for each in chunks for token_id in each.ids]


LIKE = [chunk(event(each)) for each in SEVENS]
UNLIKE = [
    *(chunk(event(each)) for each in ODD),
    chunk(event("5", more=', "text": "a"')),
    chunk(event("5", more=', "error": {"code": 400}')),
    chunk(event("5", end="\r\n\r\n")),
    chunk(event("5", end="\n")),  # not over yet
    chunk(event("9", finish='"stop"')),
    chunk(b": still here\n\n"),
    chunk(b"data: 5\n\n"),
    chunk(b"data: "),
    LIKE[0].replace(b"\r\n", b";x=1\r\n", 1),
    LIKE[0] + LIKE[1],
    LIKE[0] + b"1",  # and the rest of a number comes in the next packet
    LIKE[0] + LIKE[1][:4],  # a chunk begins
    b"%x" % (len(event("7")) + 1) + LIKE[0][2:],  # which says to be longer than it is
    b"0\r\n\r\n",
]
HEADS = [HEAD, HEAD.replace(b"200 OK", b"500 No"), HEAD.replace(b"event-stream", b"plain")]


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


def check(loop, head, packets, *, sure):
    """They are read as byte by byte, and so many ids at least whatever becomes of them."""
    expected, how = loop.run_until_complete(read([head, *(bytes([b]) for b in b"".join(packets))]))
    found, same = loop.run_until_complete(read([head, *filter(None, packets)]))
    assert same == how
    # Where it goes wrong in the middle of a packet, what came before in it is not told.
    whole = ids(expected) if how[0] is type(None) else ids(expected)[: len(ids(found))]
    assert ids(found) == whole
    assert len(whole) >= (sure if head is HEAD else 0)


@pytest.mark.parametrize("head", HEADS)
@given(
    before=st.lists(st.sampled_from(LIKE), min_size=3, max_size=5),
    odd=st.lists(st.sampled_from(UNLIKE), min_size=1, max_size=2),
    after=st.lists(st.sampled_from(LIKE), min_size=1, max_size=3),
    cut=st.integers(0, 60),
)
def test_packets_are_read_as_their_bytes_are(loop, head, before, odd, after, cut):
    packets = [*before, *odd, *after, *odd, *after]
    if cut < 30:  # in the last but one
        packets[-2:] = [packets[-2][:cut], packets[-2][cut:] + packets[-1]]
    check(loop, head, packets, sure=len(before))


@pytest.mark.parametrize("odd", UNLIKE)
def test_a_packet_like_the_others_is_doubted_behind_an_odd_one(loop, odd):
    check(loop, HEAD, [*LIKE[:1] * 3, odd, *LIKE[:1] * 9], sure=3)


async def test_packets_like_the_last_one_are_not_taken_apart(monkeypatch):
    looked = []
    whole = EventReader.read

    def read_all(reader: EventReader, events: list[bytes]) -> Chunk:
        looked.append(events)
        return whole(reader, events)

    monkeypatch.setattr(EventReader, "read", read_all)
    packets = [chunk(event(each)) for each in (*SEVENS, *SEVENS)]
    chunks, _ = await read([HEAD, packets[0], *packets])
    assert ids(chunks) == [int(each) for each in (SEVENS[0], *SEVENS, *SEVENS)]
    assert len(looked) == 2  # of the first, nobody knows yet that it stands between two chunks


def test_a_reply_that_is_never_alike_is_not_studied_for_long():
    packets = Packets()
    for number in range(10):
        body = event(str(number), more=f', "logprob": {number}')
        packets.learn(body)
    assert packets.id_in(chunk(event("9", more=', "logprob": 9'))) is None
    assert packets.id_in(chunk(event("9", more=', "logprob": 2'))) == 9
