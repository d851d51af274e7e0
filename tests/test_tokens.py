"""Token ids that share their buffers: each is a list of its own all the same."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tessy.tokens import TokenIds

IDS = st.lists(st.integers(0, 200_000), max_size=4)
# Which of those there are so far, what is done with it, and with which ids.
STEPS = st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["extend", "plus"]), IDS))


@given(first=IDS, steps=STEPS)
def test_growth_of_one_never_shows_in_another(first, steps):
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


def test_ids_handed_out_stay_as_they_were():
    ids = TokenIds([1, 2])
    before, prompt = ids.ids, ids.plus(())
    ids.extend([3])
    assert before == [1, 2]
    assert prompt.ids == [1, 2]
    assert prompt.json == b"[1,2]"
