"""A run of an earlier version resumes to the same rows, and every command can read it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest

from tessy.core.records import Trajectory, unpack_ids
from tessy.storage.journal import Journal
from tessy.storage.run_paths import RunPaths
from tessy.tokenization.families import load_renderer
from tessy.tokenization.token_ids import decode
from tests.lab.test_demo import finish
from tests.support.old_run import FAILED, FINISHED, LOAD, SOURCE, arguments, copy_to, synthesize
from tests.support.run_data import read_run

ROWS = "trajectories.jsonl"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in the current directory."""
    copy_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("run")


def expected() -> dict[str, dict[str, Any]]:
    """Return the rows that the earlier version would have added, by id."""
    rows = (json.loads(line) for line in (SOURCE / "expected.jsonl").read_bytes().splitlines())
    return {row["id"]: row for row in rows}


def test_the_run_has_rows_a_failure_and_two_samples_in_flight(run: Path):
    data = read_run(run)
    assert (len(data.trajectories), len(data.failures)) == (FINISHED, FAILED)
    with Journal(RunPaths(run).journal) as journal:
        left = journal.load()
    assert len(left) == 2
    states = [json.loads(flight.state or b"") for flight in left.values()]
    assert all(flight.pieces for flight in left.values())
    assert any(state["thinking"]["draft"] for state in states)
    assert {key[0] for key in left} < expected().keys()


def test_the_run_resumes_to_the_same_ids_and_text(run: Path):
    before = (run / ROWS).read_bytes()
    failed = (run / "failures.jsonl").read_bytes()
    synthesize()
    after = (run / ROWS).read_bytes()
    assert after.startswith(before)
    assert (run / "failures.jsonl").read_bytes() == failed
    added = [json.loads(line) for line in after[len(before) :].splitlines()]
    assert len(added) == len(expected())
    for row in added:
        wanted = expected()[row["id"]]
        found, known = Trajectory.model_validate(row), Trajectory.model_validate(wanted)
        assert found.student_ids is not None
        assert known.student_ids is not None
        for part in ("thinking", "answer"):
            own, old = getattr(found.student_ids, part), getattr(known.student_ids, part)
            assert unpack_ids(own) == unpack_ids(old)
        assert found.model_dump(exclude=LOAD) == known.model_dump(exclude=LOAD)
        # Rows of later versions have all keys of earlier ones.
        assert row.keys() >= wanted.keys()
        assert row["tokens"].keys() == wanted["tokens"].keys()
        assert row["cost"].keys() == {*wanted["cost"], "unseen"}
        assert row["cost"]["seconds"].keys() == wanted["cost"]["seconds"].keys()
    document = json.loads((run / "config.json").read_bytes())
    assert (
        document["data_config"]
        == json.loads((SOURCE / "run/config.json").read_bytes())["data_config"]
    )


def test_samples_in_flight_are_resumed_and_not_restarted(run: Path):
    with closing(sqlite3.connect(run / "journal.sqlite")) as db:
        for number, state in db.execute("SELECT number, state FROM flight").fetchall():
            document = json.loads(state)
            document["meter"]["requests"]["student"] += 1000  # a restarted sample has fewer
            db.execute(
                "UPDATE flight SET state = ? WHERE number = ?",
                (json.dumps(document).encode(), number),
            )
        db.commit()
        in_flight = {name.decode() for (name,) in db.execute("SELECT id FROM flight")}
    synthesize()
    rows = read_run(run).trajectories
    assert {row.id for row in rows if row.cost.requests["student"] > 1000} == in_flight
    assert all(row.attempts == 1 for row in rows)
    with Journal(RunPaths(run).journal) as journal:
        assert journal.load() == {}


def test_view_shows_every_sample(run: Path):
    finish(["tessy", "view", str(run)])
    page = (run / "report.html").read_text("utf-8")
    for row in (*read_run(run).trajectories, *read_run(run).failures):
        assert row.id in page


def test_compare_shows_its_samples(run: Path):
    output = finish(["tessy", "compare", str(run), "--out", "compare.html"])
    assert "1 run over 4 problems." in output
    page = Path("compare.html").read_text("utf-8")
    assert "models/student" in page
    for row in read_run(run).trajectories:
        assert json.dumps(row.answer)[1:-1] in page


def test_filter_keeps_rows_that_pass(run: Path):
    finish(["tessy", "filter", str(run), "--out", "filtered"])
    kept = read_run("filtered").trajectories
    quarantined = Path("filtered/quarantine.jsonl").read_text("utf-8").splitlines()
    assert len(kept) + len(quarantined) == FINISHED
    assert {row.id: row.thinking for row in kept}.items() <= {
        row.id: row.thinking for row in read_run(run).trajectories
    }.items()


def test_export_writes_its_samples_as_messages(run: Path):
    finish(["tessy", "export", str(run), "--to", "messages", "--out", "data.jsonl"])
    lines = Path("data.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["messages"] for line in lines] == [
        [message.model_dump() for message in row.messages] for row in read_run(run).trajectories
    ]


def test_export_writes_its_samples_as_tokens(run: Path):
    finish(["tessy", "export", str(run), "--to", "tokens", "--out", "data.parquet"])
    ids = pq.read_table("data.parquet").column("input_ids").to_pylist()
    rows = read_run(run).trajectories
    codec = load_renderer("models/student").codec
    assert len(ids) == len(rows) == FINISHED
    for sequence, row in zip(ids, rows, strict=True):
        assert row.messages[-1].content in decode(codec, sequence)


def test_mix_reads_its_rows(run: Path):
    shutil.copytree(run, "other")
    finish(["tessy", "mix", str(run), "other", "--out", "mixed"])
    mixed = read_run("mixed")
    assert len(mixed.trajectories) == FINISHED
    assert {row.thinking for row in mixed.trajectories} == {
        row.thinking for row in read_run(run).trajectories
    }


def test_plan_includes_its_rows(run: Path):
    options = arguments()[1:]
    output = finish(["tessy", "plan", *options, "--pilot", "5"])
    document = json.loads((run / "plan.json").read_bytes())
    assert document["samples"]["ended"] >= 5
    assert "of an earlier run are included" in output
