"""Token ids with shared buffers, and splitting text off the end of ids."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from tessy.tokenization.token_ids import TokenIds, decode, split_tail

IDS = st.lists(st.integers(0, 200_000), max_size=4)
# The index of an existing list, the operation, and its ids.
STEPS = st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["extend", "plus"]), IDS))


@given(first=IDS, steps=STEPS)
def test_appending_to_one_list_does_not_change_others(first, steps):
    ours, plain = [TokenIds(first)], [list(first)]
    for place, what, ids in steps:
        at = place % len(ours)
        if what == "extend":
            ours[at].extend(ids)
            plain[at] += ids
        else:
            ours.append(ours[at].plus(ids))
            plain.append(plain[at] + ids)
        assert [list(one.ids) for one in ours] == plain
        assert [len(one) for one in ours] == [len(one) for one in plain]
        assert [json.loads(one.json) for one in ours] == plain


def test_returned_ids_do_not_change_later():
    ids = TokenIds([1, 2])
    before, prompt = ids.ids, ids.plus(())
    ids.extend([3])
    assert before == [1, 2]
    assert prompt.ids == [1, 2]
    assert prompt.json == b"[1,2]"


class Pieces:
    """A codec whose tokens are arbitrary bytes."""

    control_ids: frozenset[int] = frozenset()
    digest = ""

    def __init__(self, pieces):
        self.pieces = pieces

    def encode(self, text):
        raise NotImplementedError  # ids are only decoded here

    def token_bytes(self, token_id):
        return self.pieces[token_id]


@given(
    text=st.text("ab\ufffdé汉👩"),
    cuts=st.lists(st.integers(0, 40)),
    chars=st.integers(0, 10),
)
@example(text="\ufffdb", cuts=[2], chars=2)
def test_split_tail_returns_the_remaining_ids_and_the_rest_of_the_text(text, cuts, chars):
    whole, chars = text.encode(), min(chars, len(text))
    bounds = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    codec = Pieces([whole[start:end] for start, end in pairwise(bounds)])
    kept, tail = split_tail(codec, range(len(codec.pieces)), text, chars)
    assert decode(codec, kept) + tail == text
    assert len(tail) >= chars


def test_split_tail_splits_off_invalid_utf_8():
    codec = Pieces([b"ab", b"\xbf", b"\xbfc"])
    assert split_tail(codec, [0, 1, 2], "ab\ufffd\ufffdc", 2) == ([], "ab\ufffd\ufffdc")
