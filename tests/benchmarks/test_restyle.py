"""The benchmark of restyle counts what a server with a prefix cache would compute."""

from __future__ import annotations

import json

import pytest
from benchmarks.bench_restyle import main, simulated
from benchmarks.restyled_trace import BLOCK_TOKENS, CachedStudent


async def test_a_cached_prefix_is_not_computed_again():
    student = CachedStudent()
    ids = list(range(5 * BLOCK_TOKENS + 3))
    await student.score("p/0", ids)
    assert student.prefilled == len(ids)
    await student.score("p/0", [*ids, 7])
    assert student.prefilled == len(ids) + 4  # the rest of a block
    await student.score("p/0", ids[: 2 * BLOCK_TOKENS])
    assert student.prefilled == len(ids) + 4 + BLOCK_TOKENS  # the last token is always computed


async def test_more_candidates_cost_more():
    one, four = await simulated(1, 500), await simulated(4, 500)
    assert one.places == four.places > 5
    assert 1.0 < one.computed_per_kept < four.computed_per_kept


@pytest.mark.smoke
def test_the_table_and_the_figures_are_written(tmp_path, capsys):
    file = tmp_path / "restyle.json"
    main(["--candidates", "2", "--trace-tokens", "300", "--json", str(file)])
    assert "| 2 | " in capsys.readouterr().out
    (cost,) = json.loads(file.read_text("utf-8"))["costs"]
    assert cost["candidates"] == 2
    assert cost["time_ratio"] is None
