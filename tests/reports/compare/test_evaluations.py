"""``tessy compare`` for evaluations, and the remark on runs with equal texts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tessy.config.data import CompareConfig
from tessy.core.errors import ConfigError, InputError
from tessy.reports.compare.command import compare
from tests.support import rows
from tests.support.evaluations import evaluation, evaluations, write_evaluation


def compared(*runs: Path, **options: Any) -> str:
    output = io.StringIO()
    out = options.pop("out", runs[0].parent / "compare.html")
    config = CompareConfig(runs=runs, out=out, **options)
    assert compare(config, Console(file=output, width=200)) == 0
    return output.getvalue()


@pytest.fixture
def before(tmp_path: Path) -> Path:
    outcomes = {f"q{n}": "+-" if n % 2 else "--" for n in range(20)}
    return write_evaluation(tmp_path / "before", evaluations(outcomes))


def test_a_difference_beyond_noise_is_stated(before: Path):
    after = write_evaluation(
        before.with_name("after"), evaluations({f"q{n}": "++" for n in range(20)})
    )
    out = before.with_name("compare.json")
    output = compared(before, after, json_file=out)
    assert "2 evaluations on sums.jsonl over the same 20 problems." in output
    assert "after is better than before by 75.0 points (95 %: +" in output
    found = json.loads(out.read_text("utf-8"))
    (difference,) = found["differences"]
    assert difference["value"] == pytest.approx(0.75)
    assert difference["low"] < 0.75 < difference["high"]
    assert (difference["better"], difference["worse"], difference["problems"]) == (20, 0, 20)
    assert difference["conclusion"] == "better"
    assert [run["pass@1"]["value"] for run in found["runs"]] == [0.25, 1.0]
    assert list(found["runs"][0]["pass@k"]) == ["2"]
    page = before.with_name("compare.html").read_text("utf-8")
    assert "after is better than before" in page
    assert "Validity of responses" in page
    assert "is worse than after by 75.0 points" in compared(after, before)


def test_a_difference_that_chance_explains_is_within_noise(before: Path):
    same = write_evaluation(
        before.with_name("same"), evaluations({f"q{n}": "-+" if n % 2 else "--" for n in range(20)})
    )
    assert "same against before: +0.0 points, within noise" in compared(before, same)
    few = {f"q{n}": "++" if n < 5 else "+-" if n % 2 else "--" for n in range(20)}
    other = write_evaluation(before.with_name("few"), evaluations(few))
    assert "of which only 5 differ" in compared(before, other)


def test_validity_is_counted_and_unscored_samples_are_named(before: Path):
    outcomes = {f"q{n}": letters for n, letters in enumerate(("tt", "l+", "me", "nj", "+-"))}
    failures = [rows.failure("q5", reason="server_error")]
    odd = write_evaluation(before.with_name("odd"), evaluations(outcomes), failures)
    out = before.with_name("compare.json")
    output = compared(before, odd, json_file=out)
    assert "20 problems, of which 5 have a score in all runs" in output
    assert "2 samples without a score" in output
    found = json.loads(out.read_text("utf-8"))["runs"][1]
    assert found["validity"] == {
        "empty": 1, "no final answer": 1, "truncated": 2, "looping": 1, "misplaced marker": 1,
    }  # fmt: skip
    assert found["unscored"] == {"judge_error": 1, "server_error": 1}
    assert "server error 1, judge error 1" in output


def test_runs_that_cannot_be_compared_are_refused(before: Path, tmp_path: Path):
    rows.fill(tmp_path / "samples", rows.row())
    with pytest.raises(ConfigError, match=r"is a run of `tessy evaluate`, but .*samples is a run"):
        compared(before, tmp_path / "samples")
    other = write_evaluation(tmp_path / "other", evaluations({"x": "+"}))
    with pytest.raises(InputError, match="no problem with a score in common"):
        compared(before, other)
    asked = [evaluation("q0", 0, "+", "2 + 2? Be brief.")]
    changed = write_evaluation(tmp_path / "changed", asked)
    with pytest.raises(InputError, match="different texts of the problem 'q0'"):
        compared(before, changed)
    with pytest.raises(ConfigError, match="json_file: only evaluations"):
        compared(tmp_path / "samples", json_file=tmp_path / "c.json")
    judged = [row.model_copy(update={"judge": "exact 1"}) for row in evaluations({"q0": "+"})]
    exact = write_evaluation(tmp_path / "exact", judged, judge="exact 1")
    assert "Their judges differ" in compared(before, exact)
    assert "within noise" not in compared(before)  # one run has nothing to differ from


def test_runs_with_equal_texts_are_remarked(tmp_path: Path):
    for name, answers in {"one": "44", "two": "44", "three": "45"}.items():
        found = [rows.row("a", sample, answer=answer) for sample, answer in enumerate(answers)]
        rows.fill(tmp_path / name, *found)
    output = compared(*(tmp_path / name for name in ("one", "three", "two")))
    remark = (
        "two and one have the same thinking and answer in all 2 samples that both finished: their "
        "methods made no difference here."
    )
    assert remark in output
    assert remark in (tmp_path / "compare.html").read_text("utf-8")
    assert "three and" not in output
