"""Budgets: the limits themselves, and runs that they stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.lab.bundled import demo_problems
from tessy.runtime.budget import BudgetTracker, Spending
from tessy.runtime.stop import Draining, Stop
from tessy.storage.journal import Journal
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.resume import spent_before
from tests.lab.test_demo import content, finish, synthesize, write_problems
from tests.support.rows import failure, fill, row
from tests.support.run_data import read_run

COUNT = 12


def exceeded(
    seconds: float, tokens: int, max_hours: float | None = None, max_tokens: int | None = None
) -> str | None:
    """Return the limit that this usage reaches, without time in the current session."""
    tracker = BudgetTracker(max_hours, max_tokens, clock=lambda: 0.0)
    tracker.before = Spending(seconds, tokens)
    return tracker.exceeded(0)


def test_a_limit_is_reached_by_its_own_unit_only():
    assert exceeded(7199.9, 999, 2, 1000) is None
    assert exceeded(7200, 0, 2, 1000) == "budget_hours: 2 of 2 hours are spent"
    message = "budget_tokens: 1,003 of 1,000 generated tokens are spent"
    assert exceeded(0, 1003, 2, 1000) == message


def test_without_limits_no_spending_exceeds_the_budget():
    assert not BudgetTracker().limited
    assert exceeded(1e12, 10**15) is None
    assert BudgetTracker(hours=1).limited
    assert BudgetTracker(tokens=1).limited


@given(
    st.none() | st.floats(1e-6, 1e6),
    st.none() | st.integers(1, 10**9),
    st.tuples(st.floats(0, 1e10), st.integers(0, 10**10)),
    st.tuples(st.floats(0, 1e10), st.integers(0, 10**10)),
)
def test_a_spent_budget_stays_spent(hours, tokens, first, more):
    limits = {"max_hours": hours, "max_tokens": tokens}
    if exceeded(*first, **limits):
        assert exceeded(first[0] + more[0], first[1] + more[1], **limits)


def test_the_time_of_earlier_sessions_counts():
    now = 50.0
    tracker = BudgetTracker(hours=1, clock=lambda: now)
    assert tracker.exceeded(10**9) is None
    now += 3599
    assert tracker.exceeded(0) is None
    tracker.before = Spending(seconds=1.0)
    assert tracker.exceeded(0) is not None


def test_a_spent_budget_drains_like_a_stop():
    spent = False
    stop = Stop(lambda: spent)
    stop.check()
    spent = True
    assert stop.requested
    assert not stop.interrupted
    with pytest.raises(Draining):
        stop.check()


def test_tokens_on_disk_are_counted_once(tmp_path: Path):
    drafted = {"tokens": {"student": 4, "answer": 1, "drafted": {"student": 9, "teacher": 30}}}
    rows = [row("a").model_copy(update={"tokens": row().tokens.model_validate(drafted["tokens"])})]
    fill(tmp_path, *rows, failure("b", attempts=1), failure("b", attempts=2))
    paths = RunPaths(tmp_path)
    assert spent_before(paths, []) == Spending(0.0, 9 + 30 + 1 + 1 + 1)
    paths.summary.write_text('{"seconds": {"wall": 7.5}}')
    assert spent_before(paths, []).seconds == 7.5
    paths.summary.write_text('{"seconds": ')
    assert spent_before(paths, []).seconds == 0


# ------------------------------------------------------------------ with the bundled models


def questions(folder: Path) -> Path:
    rows: list[object] = [
        {"id": p.id, "prompt": p.messages[0].content} for p in demo_problems(COUNT, 5)
    ]
    return write_problems(folder / "questions.jsonl", rows)


def generated(run: Path) -> int:
    data = read_run(run)
    rows = (*data.trajectories, *data.failures)
    return sum(sum(r.tokens.drafted.values()) + r.tokens.answer for r in rows)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a budget."""
    folder = tmp_path_factory.mktemp("budget")
    finish(synthesize(questions(folder), folder / "run", "--concurrency", "3"))
    return folder / "run"


def test_a_run_stops_at_its_token_limit_and_resumes_with_a_higher_one(whole: Path, tmp_path: Path):
    run, every = tmp_path / "run", generated(whole)
    command = synthesize(whole.parent / "questions.jsonl", run, "--concurrency", "3")
    budget = every // 2
    output = finish([*command, "--budget-tokens", str(budget)], code=4)
    assert f"of {budget:,} generated tokens are spent" in output
    assert "with a larger budget resumes it" in output
    data = read_run(run)
    assert 0 < len(data.trajectories) < COUNT
    with Journal(RunPaths(run).journal) as journal:
        left = journal.load()
    assert left
    summary = json.loads((run / "summary.json").read_bytes())
    assert summary["samples"]["finished"] == len(data.trajectories)
    spent = spent_before(RunPaths(run), left.values()).tokens
    assert budget <= spent < budget + 3 * 2 * 64  # a request of each sample in flight at the most

    before = (run / "trajectories.jsonl").read_bytes()
    again = finish([*command, "--budget-tokens", str(spent)], code=4)
    assert f"{spent:,} of {spent:,} generated tokens are spent" in again
    assert (run / "trajectories.jsonl").read_bytes() == before
    with Journal(RunPaths(run).journal) as journal:
        assert journal.load() == left  # no request was sent

    finish([*command, "--budget-tokens", str(every * 3)])
    assert content(run) == content(whole)
    finish([*command, "--budget-tokens", "1"])  # nothing is left to make: no budget is needed


def test_spent_hours_stop_a_run_before_any_request(whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    command = synthesize(whole.parent / "questions.jsonl", run)
    output = finish([*command, "--budget-hours", "1e-9"], code=4)
    assert "Stopped gracefully by budget_hours: " in output
    assert not read_run(run).trajectories
    with Journal(RunPaths(run).journal) as journal:
        assert not journal.load()
    finish(command)
    assert content(run) == content(whole)


def test_a_budget_spent_by_the_last_sample_is_not_reported(tmp_path: Path):
    """The request that spends the rest may be the one that finishes the last sample."""
    problems = write_problems(tmp_path / "q.jsonl", [{"prompt": "7 + 8 * 2"}])
    alone = ("--strategy", "student-only")  # what two generate in turns depends on the moment
    finish(synthesize(problems, tmp_path / "run", *alone))
    exact = generated(tmp_path / "run")
    finish([*synthesize(problems, tmp_path / "again", *alone), "--budget-tokens", str(exact)])
    assert content(tmp_path / "again") == content(tmp_path / "run")


@pytest.mark.parametrize(("option", "value"), [("--budget-hours", "0"), ("--budget-tokens", "0")])
def test_a_budget_of_zero_is_refused(tmp_path: Path, option: str, value: str):
    command = synthesize(questions(tmp_path), tmp_path / "run")
    output = finish([*command, option, value], code=2)
    assert option.removeprefix("--").replace("-", "_") in output.replace("-", "_")
    assert not (tmp_path / "run").exists()
