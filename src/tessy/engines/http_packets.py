"""Packets of a streamed reply that are alike but for the token id they bring (pure).

A server sends each token as a chunk of its own, whose one event differs from the last one in the
id. Such a packet is compared, not taken apart: parsing HTTP, events and JSON takes four times as
long, for every token.
"""

from __future__ import annotations

from tessy.engines.wire_base import ids_alone

_LESSONS = 3  # a reply whose packets are never alike is not worth more of them


class Packets:
    """Knows again the packets of one reply that bring one id and nothing else."""

    __slots__ = ("_before", "_behind", "_lessons", "_starts")

    def __init__(self) -> None:
        """None has come yet."""
        self._before = self._behind = b""  # the id
        self._starts: dict[int, bytes] = {}  # of packets, by their length
        self._lessons = _LESSONS

    def learn(self, body: bytes) -> None:
        """Take a packet as a pattern if it can be one.

        Args:
            body: What it brings of the body. It begins and ends between two events.
        """
        if not self._lessons:
            return
        if not (body.startswith(b"data:") and body.endswith(b"\n\n") and body.count(b"\n") == 2):
            return  # not one event of one line
        self._lessons -= 1
        found = ids_alone(body)
        if found is not None:
            self._before = body[: found.start(1)]
            self._behind = body[found.end(1) :] + b"\r\n"
            self._starts.clear()

    def id_in(self, packet: bytes) -> int | None:
        """The id that a packet like the others brings; None if it must be taken apart.

        It begins between two chunks and two events, and so does what follows it.
        """
        start = self._starts.get(len(packet)) or self._start_of(packet)
        if start and packet.startswith(start) and packet.endswith(self._behind):
            token_id = packet[len(start) : len(packet) - len(self._behind)]
            if token_id.isdigit() and len(token_id) < 10:
                return int(token_id)
        return None

    def _start_of(self, packet: bytes) -> bytes:
        """What a packet of that length begins with; nothing if it is no whole chunk."""
        line = packet[: packet.find(b"\n") + 1]
        size = len(packet) - len(line) - len(b"\r\n")
        if not self._before or line != b"%x\r\n" % size:
            return b""
        start = self._starts[len(packet)] = line + self._before
        return start
