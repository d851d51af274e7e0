"""A reply cut into any packets brings what it brings as one."""

from __future__ import annotations

import itertools

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

    def write(self, data: bytes) -> None:
        self.sent = data

    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


async def read(packets: list[bytes], reader: Reader | None = None) -> tuple[list[Chunk], object]:
    chunks: list[Chunk] = []
    connection = Connection(lambda *_: None)
    connection.use(Wire())
    exchange = Exchange(b"", reader or IdsReader(), Tap(chunks.append))
    connection.start(exchange, 10.0)
    for packet in packets:
        if connection.exchange is not None:
            connection.data_received(packet)
    connection.leave()
    error = exchange.done.exception() if exchange.done.done() else None
    return chunks, (type(error), exchange.finished)


def ids(chunks: list[Chunk]) -> list[int]:
    return [token_id for each in chunks for token_id in each.ids]


EVENTS = st.sampled_from([
    *map(event, SEVENS), *map(event, SEVENS), *map(event, ODD),
    event("5", more=', "text": "a"'),
    event("5", more=', "error": {"code": 400}'),
    event("5", end="\r\n\r\n"),
    event("5", end="\n"),  # not over yet
    event("9", finish='"stop"'),
    b": still here\n\n",
    b"data: 5\n\n",
])  # fmt: skip


@pytest.fixture(scope="module")
def loop():
    import asyncio

    made = asyncio.new_event_loop()
    yield made
    made.close()


@given(
    events=st.lists(EVENTS, max_size=12),
    joined=st.lists(st.integers(0, 11)),
    cuts=st.lists(st.integers(0, 3000), max_size=3),
)
def test_packets_are_read_as_their_bytes_are(loop, events, joined, cuts):
    chunks = [chunk(each) for each in events]
    # A packet for each chunk, but for those that come with the one before, and for some cuts.
    places = set(itertools.accumulate(map(len, chunks)))
    places -= {sorted(places)[place] for place in joined if place < len(places)}
    body = b"".join(chunks) + b"0\r\n\r\n"
    ends = sorted({*places, *(cut for cut in cuts if cut < len(body)), len(body)} - {0})
    packets = [body[a:b] for a, b in itertools.pairwise([0, *ends])]
    expected, how = loop.run_until_complete(read([HEAD, *(bytes([byte]) for byte in body)]))
    found, same = loop.run_until_complete(read([HEAD, *packets]))
    assert same == how
    assert ids(found) == ids(expected) or how[0] is not type(None)
    assert ids(found) == ids(expected)[: len(ids(found))]


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
        packets.learn(chunk(body), body)
    assert packets.id_in(chunk(event("9", more=', "logprob": 9'))) is None
    assert packets.id_in(chunk(event("9", more=', "logprob": 2'))) == 9
