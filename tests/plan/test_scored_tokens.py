"""Scored tokens in the plan of a run of strategy ``restyle``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tessy.core.records import Restyling
from tessy.plan.figures import make_plan
from tessy.plan.pilot import read_pilot_samples
from tessy.storage.run_paths import RunPaths
from tests.plan.test_plan import ended, inputs_of, printed
from tests.support.rows import failure, fill, row


def test_scored_tokens_of_restyled_samples_are_shown(tmp_path: Path):
    def scored(tokens: int) -> Restyling:
        return Restyling(trace="t", split_by="r", scored_tokens=tokens)

    rows = [row(f"q{n}", restyle=scored(100)) for n in range(10)]
    failed = failure("q0").model_copy(update={"restyle": scored(20)})
    fill(tmp_path, failed, *rows)
    keys = {item.key for item in rows}
    plan = make_plan(inputs_of(read_pilot_samples(RunPaths(tmp_path), keys)))
    assert plan is not None
    assert plan.figures["scored"].so_far == 1020
    assert plan.figures["scored"].to_come.value == pytest.approx(80 * 102)
    output = printed(plan, {"student": "m"}, width=200)
    assert re.search(r"Scored tokens, student +1,020 +8,160 ", output)
    assert "25.5 per kept token of the thinking" in output  # each has 4
    plan = make_plan(inputs_of([ended(n) for n in range(20)]))
    assert plan is not None
    assert "Scored" not in printed(plan, {"student": "m"}, width=200)
