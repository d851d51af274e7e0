"""Every generated token is counted once, at any progress of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tessy.core.errors import SampleFailed
from tessy.core.records import Failure, Trajectory
from tessy.runtime.progress import ProgressState
from tessy.storage.journal import InFlight, Journal
from tessy.storage.run_paths import RunPaths
from tessy.synthesis.resume import Piece, SampleState, spent_before
from tessy.synthesis.strategies.registry import all_strategies
from tessy.synthesis.token_counts import generated_tokens
from tests.support.saved_samples import SavedSample
from tests.support.scripted_strategies import CASES, TEACHERS, Text, attempt_of, make_context
from tests.synthesis.test_sample import PROBLEM, open_run, write_row

EVERY = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch):
    """Limit requests to a few tokens, so that short texts take several requests."""
    monkeypatch.setattr("tessy.synthesis.response_writer.REQUEST_TOKENS", 7)


def counted(paths: RunPaths, in_flight: InFlight | None = None) -> int:
    return spent_before(paths, [in_flight or InFlight()]).tokens


@EVERY
async def test_the_usage_of_a_sample_in_flight_is_what_was_generated(case: str, tmp_path: Path):
    seen = ProgressState(1, now=0.0)
    differ: list[int] = []

    saved = SavedSample()

    def save(pieces: Sequence[Piece], state: SampleState) -> None:
        saved.save(pieces, state)
        differ.append(counted(RunPaths(tmp_path), saved.in_flight[-1]) - seen.generated)

    attempt = attempt_of(case, make_context(case), save=save)
    attempt.progress = seen
    row = await all_strategies()[CASES[case][0]].make(attempt)
    assert len(differ) >= 8
    assert set(differ) == {0}
    assert generated(row) == seen.generated


def generated(row: Trajectory | Failure) -> int:
    return sum(generated_tokens(row.model_dump(mode="json")).values())


def long_answer(prompt: str, so_far: str, seed: int) -> Text:
    return TEACHERS[0], "9, " * 80


@pytest.mark.parametrize("case", ["teacher-only", "teacher-answer", "teacher-reference"])
async def test_the_usage_of_a_failure_is_what_was_generated(case: str):
    attempt = attempt_of(case, make_context(case, teacher_text=long_answer, answer_tokens=60))
    attempt.progress = seen = ProgressState(1, now=0.0)
    with pytest.raises(SampleFailed) as failed:
        await all_strategies()[CASES[case][0]].make(attempt)
    row = attempt.failure(failed.value.reason, failed.value.detail)
    assert row.answer
    assert generated(row) == seen.generated


@pytest.mark.parametrize("case", ["student-only", "teacher-reference", "by answer"])
async def test_attempts_that_failed_in_their_answer_count(case: str, tmp_path: Path):
    strategy = CASES[case][0]
    tries = [0]

    def loops_first(prompt: str, so_far: str, seed: int) -> Text:
        tries[0] += not so_far
        return "Let me see.", "So it is the same again. " * 40 if tries[0] <= 3 else "-1"

    context = make_context(case, student_text=loops_first, answer_tokens=400)
    seen = ProgressState(1, now=0.0)
    problem = PROBLEM.model_copy(update={"extra": {"answer": -1}})
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        how = {"strategy": all_strategies()[strategy].make, "progress": seen, "attempts": 5}
        await write_row(context, run, journal, problem, **how)
    assert counted(run.paths) == seen.generated
