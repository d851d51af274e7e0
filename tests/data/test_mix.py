"""``tessy mix``: sample counts, the draw, and refused options."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tessy.config.data import MixConfig
from tessy.core.errors import InputError, RunError
from tessy.core.records import Key, Message
from tessy.data.mix import draw, mix, split
from tessy.storage.run_reader import iter_trajectories, read_config
from tests.support import rows as run_rows

Pair = tuple[int, int]
KEYS = st.sets(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4)))
RATIOS = st.tuples(st.integers(1, 12), st.integers(1, 12))


def possible(first: int, second: int, distinct: int, ratio: Pair) -> set[Pair]:
    """Return all feasible pairs of counts that are as close to the ratio as their total allows."""
    parts = sum(ratio)
    return {
        (a, b)
        for a in range(first + 1)
        for b in range(second + 1)
        if a + b <= distinct and 2 * abs(a * parts - (a + b) * ratio[0]) <= parts
    }


@given(first=KEYS, second=KEYS, ratio=RATIOS)
def test_split_takes_the_largest_total_closest_to_the_ratio(first, second, ratio):
    distinct = len(first | second)
    pairs = possible(len(first), len(second), distinct, ratio)
    found = split(len(first), len(second), distinct, ratio)
    assert found in pairs
    assert sum(found) == max(map(sum, pairs))


@pytest.mark.parametrize(
    ("first", "second", "distinct", "ratio", "counts"),
    [
        (40, 40, 40, (1, 1), (20, 20)),
        (41, 41, 41, (1, 1), (21, 20)),
        (10, 40, 40, (1, 1), (10, 11)),  # as close to the ratio as 21 samples allow
        (40, 40, 40, (3, 7), (12, 28)),
        (40, 40, 80, (1, 1), (40, 40)),
        (100, 100, 100, (333, 667), (33, 67)),
        (0, 40, 40, (1, 1), (0, 1)),
    ],
)
def test_split_of_examples(first, second, distinct, ratio, counts):
    assert split(first, second, distinct, ratio) == counts


@given(first=KEYS, second=KEYS, ratio=RATIOS, seed=st.integers(0, 5))
def test_draw_takes_each_key_once_from_a_run_that_has_it(first, second, ratio, seed):
    counts = split(len(first), len(second), len(first | second), ratio)
    drawn = draw(first, second, counts, seed)
    for number, keys in enumerate((first, second)):
        taken = {key for key, source in drawn.items() if source == number}
        assert taken <= keys
        assert len(taken) == counts[number]
    backwards = dict.fromkeys(sorted(first, reverse=True)).keys()
    assert draw(backwards, second, counts, seed) == drawn


def test_the_seed_changes_the_draw():
    keys = {(f"q{n}", 0) for n in range(20)}
    draws = {tuple(sorted(draw(keys, keys, (10, 10), seed).items())) for seed in range(5)}
    assert len(draws) == 5


def make_run(directory: Path, names: str, answer: str) -> Path:
    run_rows.fill(directory, *(run_rows.row(name, answer=answer) for name in names))
    return directory


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    first = make_run(tmp_path / "first", "cabde", "of the first")
    return first, make_run(tmp_path / "second", "edcbaf", "of the second")


def run_mix(runs: tuple[Path, Path], out: Path, **options: Any) -> str:
    output = io.StringIO()
    config = MixConfig(first=runs[0], second=runs[1], out=out, **options)
    assert mix(config, Console(file=output, width=300)) == 0
    return output.getvalue()


def mix_error(runs: tuple[Path, Path], out: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        run_mix(runs, out, **options)
    assert not out.exists()
    return str(caught.value)


def test_rows_are_copied_in_the_order_of_the_runs(runs, tmp_path):
    first, second = runs
    out = tmp_path / "mixed"
    text = run_mix(runs, out, ratio="1:2", seed=3)
    assert text == (
        f"{out}: 6 samples, 2 from {first} and 4 from {second} (1:2); "
        "each problem and sample index occurs once.\n"
    )
    rows = list(iter_trajectories(out))
    assert [row.id for row in rows] == list("cabdef")
    assert sorted(row.answer for row in rows) == ["of the first"] * 2 + ["of the second"] * 4
    lines = (out / "trajectories.jsonl").read_bytes().splitlines()
    assert set(lines) <= {
        line for run in runs for line in (run / "trajectories.jsonl").read_bytes().splitlines()
    }
    summary = json.loads((out / "summary.json").read_bytes())
    assert summary["samples"]["finished"] == 6
    assert summary["mix"] == {"ratio": "1:2", "seed": 3, "taken": {"first": 2, "second": 4}}
    assert read_config(out)["data_config"]["derived"]["by"] == "mix"


def test_mix_is_deterministic(runs, tmp_path):
    for name in ("one", "two"):
        run_mix(runs, tmp_path / name, seed=7)
    contents = [(tmp_path / name / "trajectories.jsonl").read_bytes() for name in ("one", "two")]
    assert contents[0] == contents[1]


def test_output_reports_left_out_samples_and_inexact_ratios(runs, tmp_path):
    _, second = runs
    text = run_mix(runs, tmp_path / "mixed", ratio="5:1")
    assert "6 samples, 5 from" in text
    assert "(5:1);" in text
    assert "(as close to 3:2 as possible);" in run_mix(runs, tmp_path / "odd", ratio="3:2")
    small = make_run(tmp_path / "small", "a", "of the small")
    text = run_mix((small, second), tmp_path / "other", ratio="2:1")
    assert "2 samples, 1 from" in text
    assert "4 samples left out to keep the ratio" in text


@settings(max_examples=20, deadline=None)
@given(first=KEYS.filter(bool), second=KEYS.filter(bool), seed=st.integers(0, 3))
def test_the_new_run_contains_the_drawn_rows(tmp_path_factory, first, second, seed):
    folder = tmp_path_factory.mktemp("mix")
    runs: list[Path] = []
    for number, keys in enumerate((first, second)):
        runs.append(folder / str(number))
        run_rows.fill(runs[-1], *(run_rows.row(name, n, answer=str(number)) for name, n in keys))
    counts = split(len(first), len(second), len(first | second), (1, 1))
    if 0 in counts:
        mix_error((runs[0], runs[1]), folder / "out")
        return
    run_mix((runs[0], runs[1]), folder / "out", seed=seed)
    found: dict[Key, int] = {r.key: int(r.answer) for r in iter_trajectories(folder / "out")}
    assert found == draw(first, second, counts, seed)


@pytest.mark.parametrize("ratio", ["0:1", "1:0", "0:0"])
def test_a_ratio_with_a_zero_is_refused(runs, tmp_path, ratio):
    assert f"--ratio {ratio}" in mix_error(runs, tmp_path / "mixed", ratio=ratio)


@pytest.mark.parametrize("ratio", ["1-1", "", "1", "1:1:1", "-1:2", "0.5:1", "²:1"])
def test_an_invalid_ratio_is_refused(runs, tmp_path, ratio):
    assert mix_error(runs, tmp_path / "mixed", ratio=ratio) == (
        f"--ratio: expected two whole numbers such as 1:1, got {ratio!r}"
    )


def test_different_problems_with_one_id_are_refused(runs, tmp_path):
    first, _ = runs
    other = tmp_path / "other"
    messages = (Message(role="user", content="3 + 3?"), Message(role="assistant", content="6"))
    run_rows.fill(
        other,
        run_rows.row("z"),
        run_rows.row("d").model_copy(update={"messages": messages}),
    )
    assert "the id 'd'" in mix_error((first, other), tmp_path / "mixed")


def test_runs_with_different_students_are_refused(runs, tmp_path):
    first, _ = runs
    other = tmp_path / "other"
    data = {**run_rows.DATA, "student.format": "another"}
    with run_rows.start(other, data_config=data):
        pass
    assert "different students" in mix_error((first, other), tmp_path / "mixed")


def run_with_formats(directory: Path, name: str, **formats: str) -> Path:
    """Create a run of one sample with these digests of chat formats."""
    data = {**run_rows.DATA, **{f"{role}.format": digest for role, digest in formats.items()}}
    with run_rows.start(directory, data_config=data) as run:
        asyncio.run(run.append(run_rows.row(name)))
    return directory


def test_only_the_students_format_must_match(tmp_path):
    first = run_with_formats(tmp_path / "first", "a", student="S", teacher="T")
    other_student = run_with_formats(tmp_path / "student", "b", student="other", teacher="T")
    other_teacher = run_with_formats(tmp_path / "teacher", "b", student="S", teacher="other")
    sampled = run_with_formats(
        tmp_path / "sampled", "b", teacher="S"
    )  # by `tessy sample`: one model
    assert "different students" in mix_error((first, other_student), tmp_path / "mixed")
    assert "2 samples" in run_mix((first, other_teacher), tmp_path / "teachers")
    assert "2 samples" in run_mix((first, sampled), tmp_path / "with-sampled")


def test_a_missing_final_newline_is_added(tmp_path):
    first, second = make_run(tmp_path / "first", "a", "x"), make_run(tmp_path / "second", "b", "y")
    rows = first / "trajectories.jsonl"
    rows.write_bytes(rows.read_bytes().removesuffix(b"\n"))
    run_mix((first, second), tmp_path / "mixed")
    assert [row.id for row in iter_trajectories(tmp_path / "mixed")] == ["a", "b"]
    assert (tmp_path / "mixed" / "trajectories.jsonl").read_bytes().count(b"\n") == 2


def test_an_empty_run_or_the_same_run_twice_is_refused(runs, tmp_path):
    first, _ = runs
    empty = make_run(tmp_path / "empty", "", "")
    assert "has 0, too few" in mix_error((first, empty), tmp_path / "mixed")
    assert "given twice" in mix_error((first, first), tmp_path / "mixed")
    assert "there is no folder" in mix_error((first, tmp_path / "nothing"), tmp_path / "mixed")


def test_an_existing_run_is_replaced_only_with_fresh(runs, tmp_path):
    out = tmp_path / "mixed"
    run_mix(runs, out)
    with pytest.raises(RunError, match="already contains a run"):
        run_mix(runs, out)
    run_mix(runs, out, fresh=True, ratio="1:2")
    assert (tmp_path / "mixed.old-1" / "config.json").exists()
