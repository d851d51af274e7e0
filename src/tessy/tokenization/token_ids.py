"""Token ids: an append-only list with its JSON, drafts, and the protocol of tokenizers.

Appending to the JSON of the previous request avoids serializing a long prompt for each request.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol


class Codec(Protocol):
    """Lossless conversion between text and ids of a tokenizer, without template or markup.

    Attributes:
        control_ids: Ids that are markup, never text (end of turn, think markers, channels …).
        digest: Hash of everything that determines the text of ids.
    """

    control_ids: frozenset[int]
    digest: str

    def encode(self, text: str) -> list[int]:
        """Return ids whose bytes are exactly ``text``; markup in ``text`` stays plain text."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes of a token; several tokens may share one character."""
        ...


def decode(codec: Codec, ids: Iterable[int]) -> str:
    """Return the text of ``ids``; invalid UTF-8 becomes U+FFFD."""
    return b"".join(map(codec.token_bytes, ids)).decode("utf-8", errors="replace")


class TokenIds:
    """An append-only list of token ids, with its JSON.

    Copies share buffers that only grow. Each copy uses the first part of the buffers, followed by a
    few ids of its own.
    """

    __slots__ = ("_bytes", "_count", "_ids", "_json", "_tail")

    def __init__(self, ids: Iterable[int] = ()) -> None:
        # An array, because a list takes nine times the memory. May be shared, like _json.
        self._ids = array("i")
        self._json = bytearray()
        self._count = 0  # length of the part of _ids that belongs to this list
        self._bytes = 0  # and of the part of _json
        self._tail: tuple[int, ...] = ()  # apart from the buffers, which are shared and still grow
        self.extend(ids)

    def extend(self, ids: Iterable[int]) -> None:
        """Append ``ids``."""
        new = [*self._tail, *ids]
        if not new:
            return
        if self._count < len(self._ids):  # another list has appended to the shared buffer
            self._ids = self._ids[: self._count]
            self._json = self._json[: self._bytes]
        if self._json:
            self._json += b","
        self._json += _json_of(new)
        self._ids.extend(new)
        self._count, self._bytes, self._tail = len(self._ids), len(self._json), ()

    def plus(self, ids: Iterable[int]) -> TokenIds:
        """Return a copy with ``ids`` appended, such as the prompt of a request.

        The copy shares the buffers; later appends to this list do not change it.
        """
        copy = TokenIds()
        copy._ids, copy._json = self._ids, self._json
        copy._count, copy._bytes = self._count, self._bytes
        copy._tail = (*self._tail, *ids)
        return copy

    @property
    def ids(self) -> Sequence[int]:
        """A copy of the ids as a list."""
        return [*self._ids[: self._count], *self._tail]

    @property
    def json(self) -> bytes:
        """The ids as a JSON array: ``b"[1,2,3]"``."""
        return self.json_between(b"", b"")

    def json_between(self, head: bytes, tail: bytes) -> bytes:
        """Return the ids as a JSON array between ``head`` and ``tail``, copied once."""
        comma = b"," if self._tail and self._bytes else b""
        with memoryview(self._json) as buffer, buffer[: self._bytes] as own:
            return b"".join((head, b"[", own, comma, _json_of(self._tail), b"]", tail))

    def __len__(self) -> int:
        return self._count + len(self._tail)


def _json_of(ids: Iterable[int]) -> bytes:
    return ",".join(map(str, ids)).encode("ascii")


class Draft:
    """Generated ids and their text.

    A token may end inside a character, so ``text`` contains complete characters only. Invalid UTF-8
    becomes U+FFFD.
    """

    __slots__ = ("_clean", "_codec", "_decoder", "_ends", "ids", "text")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ends: list[int] = []  # complete characters of `text` after each id
        self._clean: list[bool] = []  # whether each id ends on a character
        self.ids: list[int] = []
        self.text = ""

    def extend(self, ids: Iterable[int]) -> str:
        """Append generated ``ids``; return the text they add."""
        added = ""
        length = len(self.text)
        clean = not self._clean or self._clean[-1]
        for token_id in ids:
            data = self._codec.token_bytes(token_id)
            try:
                if not clean:
                    raise UnicodeError
                piece = data.decode()
            except UnicodeError:  # an incomplete or invalid character
                piece = self._decoder.decode(data)
                clean = not self._decoder.getstate()[0]
            added += piece
            length += len(piece)
            self.ids.append(token_id)
            self._ends.append(length)
            self._clean.append(clean)
        self.text += added
        return added

    def flush(self) -> None:
        """End the draft; an incomplete character becomes U+FFFD."""
        self.text += self._decoder.decode(b"", final=True)

    def aligned(self, end: int) -> int:
        """Return how many leading ids lie inside ``text[:end]`` (chars) and end on a character."""
        count = len(self.ids)
        while count and (self._ends[count - 1] > end or not self._clean[count - 1]):
            count -= 1
        return count

    def end_of(self, count: int) -> int:
        """Return the length in chars of the text of the first ``count`` ids."""
        return self._ends[count - 1] if count else 0

    def cut(self, end: int) -> list[int]:
        """Return ids of ``text[:end]``: as generated up to a straddling id, the rest encoded."""
        count = self.aligned(end)
        rest = self.text[self.end_of(count) : end]
        return self.ids[:count] + (self._codec.encode(rest) if rest else [])

    def split(self, count: int) -> Draft:
        """Return the draft without its first ``count`` ids, which must end on a character."""
        rest = Draft(self._codec)
        rest.extend(self.ids[count:])
        return rest

    def stripped(self) -> Draft:
        """Return the draft without leading white space; itself while it has nothing else.

        Ids of white space only are removed; an id with leading white space is encoded again.
        """
        blank = len(self.text) - len(self.text.lstrip())
        if blank in (0, len(self.text)):
            return self
        first = self.aligned(blank)
        after = first
        while after < len(self.ids) and not (self._ends[after] > blank and self._clean[after]):
            after += 1
        if after == len(self.ids):
            return self  # the first character after the white space is incomplete
        fresh = Draft(self._codec)
        if self.end_of(first) == blank:
            fresh.extend(self.ids[first:])
        else:
            fresh.extend(self._codec.encode(self.text[blank : self._ends[after]]))
            fresh.extend(self.ids[after + 1 :])
        return fresh


def split_tail(codec: Codec, ids: Sequence[int], text: str, chars: int) -> tuple[list[int], str]:
    """Split the last ``chars`` characters off ``ids``, whose text ends with ``text``.

    Return the remaining ids and the text split off, which is longer if a token covers the split.
    """
    tail = b""
    keep = len(ids)
    while keep:
        taken = tail.decode("utf-8", errors="replace")
        # Ids that begin inside a character may look like a U+FFFD of the text.
        inside = tail and tail[0] & 0xC0 == 0x80
        if not inside and len(taken) >= chars and text.endswith(taken):
            break
        keep -= 1
        tail = codec.token_bytes(ids[keep]) + tail
    taken = tail.decode("utf-8", errors="replace")
    return list(ids[:keep]), taken
