import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.core.errors import EngineRefused
from tessy.inference.base import Chunk, ChunkSink, Request, Sampling
from tessy.inference.local.jobs import LocalJob, batches, common_prefix
from tessy.inference.local.kv_cache import KvPool, Rows
from tessy.tokenization.token_ids import TokenIds


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40))
def test_common_prefix(first, second):
    length = common_prefix(first, second)
    assert first[:length] == second[:length]
    assert first[length : length + 1] != second[length : length + 1] or length == len(first)


@given(st.lists(st.integers(1, 2048), max_size=30), st.sampled_from([0, 64, 512]))
def test_batches_contain_each_member_once_with_little_padding(lengths, slack):
    step = [(i, [0] * length) for i, length in enumerate(lengths)]
    groups = list(batches(step, slack))
    assert sorted(id(m) for group in groups for m in group) == sorted(map(id, step))
    for group in groups:
        sizes = [len(new) for _, new in group]
        area = max(sizes) * len(sizes)
        assert area - sum(sizes) <= max(slack, area // 4)
        assert len(group) == 1 or area <= 4 * 2048


@given(st.lists(st.integers(1, 40), max_size=30))
def test_a_pool_gives_each_row_once_and_no_more_than_it_has(counts):
    pool = KvPool(100)
    held: list[Rows] = []
    for count in counts:
        rows = pool.take(count)
        used = sum(len(rows) for rows in held)
        assert (rows is None) == (used + count > 100)
        if rows is None:
            pool.give(held.pop(0))
        else:
            held.append(rows)
        flat = [row for rows in held for row in rows.tolist()]
        assert len(set(flat)) == len(flat)
        assert all(0 < row <= 100 for row in flat)


async def test_a_stream_that_has_ended_receives_nothing_that_was_on_its_way():
    received: list[Chunk] = []
    loop = asyncio.get_running_loop()
    sent = Request("a", TokenIds([1]), Sampling(), 8, (), 0)
    job = LocalJob(sent, ChunkSink(received.append), loop, loop.create_future(), [1])
    job.deliver(Chunk((2,)))
    job.deliver(EngineRefused("no"))
    job.deliver(Chunk((3,), "length"))
    assert received == [Chunk((2,))]
    assert job.closed  # so that the worker takes no further step with it
    with pytest.raises(EngineRefused, match="no"):
        await job.ended
