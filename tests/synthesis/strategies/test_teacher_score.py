"""``teacher-score``: candidates, their scores, and the choice of the best one."""

from __future__ import annotations

import pytest

from tessy.core.records import Message, Problem, Trajectory
from tessy.storage.journal import Journal
from tessy.synthesis.resume import dump_piece
from tessy.synthesis.strategies.registry import all_strategies
from tessy.synthesis.strategies.teacher_score import parse_score
from tessy.tokenization.token_ids import decode
from tests.support.run_data import read_run
from tests.support.saved_samples import SavedSample
from tests.support.scripted_strategies import (
    CANDIDATES,
    Text,
    attempt_of,
    candidates,
    failing,
    make,
    make_context,
    one_by_one,
    requests_of,
    teachers,
)
from tests.synthesis.test_sample import PROBLEM, RENDERERS, open_run, write_row


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch):
    """Limit requests to a few tokens, so that short texts take several requests."""
    monkeypatch.setattr("tessy.synthesis.response_writer.REQUEST_TOKENS", 7)


async def test_the_teacher_scores_every_candidate_and_the_first_of_the_best_is_kept():
    context = make_context("teacher-score")
    row = await make("teacher-score", context)
    assert row.scores == (3.0, 9.0, 9.0)
    assert row.unscored == {}
    assert row.thinking == CANDIDATES[1][0]
    codec = RENDERERS["harmony"].codec
    first = decode(codec, requests_of(context, "teacher")[0].prompt.ids)
    assert all(text in first for text in (PROBLEM.messages[0].content, *CANDIDATES[0]))
    encode = RENDERERS["qwen3"].codec.encode
    thinking = sum(len(encode(text[0])) for text in CANDIDATES)
    lost = sum(len(encode(CANDIDATES[n][1])) for n in (0, 2))
    assert row.tokens.drafted["student"] == thinking + lost


async def test_a_reference_answer_scores_without_any_teacher():
    row = await make("by answer", make_context("by answer"))
    assert row.scores == (0.0, 1.0, 1.0, 0.0)


async def test_a_failed_candidate_is_excluded():
    row = await make("teacher-score", make_context("teacher-score", student_text=failing(1)))
    assert row.scores == (3.0, None, 9.0)
    assert row.unscored == {1: "empty_answer"}
    assert row.thinking == CANDIDATES[2][0]
    assert Trajectory.model_validate_json(row.model_dump_json()) == row


@pytest.mark.parametrize("judgement", ["I cannot say.", "Score: 11", "Score: 5\nor so", ""])
async def test_a_candidate_without_a_score_is_excluded(judgement):
    def texts(prompt: str, so_far: str, seed: int) -> Text:
        thinking, answer = teachers(prompt, so_far, seed)
        return thinking, judgement if CANDIDATES[1][1] in prompt else answer

    row = await make("teacher-score", make_context("teacher-score", teacher_text=texts))
    assert row.scores == (3.0, None, 9.0)
    assert row.unscored == {1: "no_score"}


@pytest.mark.parametrize("teacher", ["harmony", "qwen3"])
async def test_the_teachers_judgement_needs_no_thinking(teacher):
    def texts(prompt: str, so_far: str, seed: int) -> Text:
        return "", teachers(prompt, so_far, seed)[1]

    row = await make(
        "teacher-score", make_context("teacher-score", "qwen3", teacher, teacher_text=texts)
    )
    assert row.scores == (3.0, 9.0, 9.0)


async def test_if_no_candidate_has_a_score_the_sample_fails_with_the_last_reason(tmp_path):
    texts = one_by_one()
    context = make_context(
        "teacher-score", student_text=texts, teacher_text=lambda *_: ("Hm.", "Good.")
    )
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        await write_row(context, run, journal, strategy=all_strategies()["teacher-score"].make)
        await journal.flush()
        assert journal.load() == {}
    (row,) = read_run(tmp_path / "r").failures
    assert (row.reason, row.attempts) == ("no_score", 1)
    assert "none of 3 candidates" in row.detail
    assert "'Good.'" in row.detail
    assert row.scores == (None, None, None)
    assert set(row.unscored.values()) == {"no_score"}
    assert (row.thinking, row.answer) == CANDIDATES[2]


async def test_candidates_that_all_fail_are_tried_again_as_one_sample(tmp_path):
    context = make_context("by answer", student_text=failing(*range(8)))
    problem = Problem(id="p", messages=PROBLEM.messages, extra={"answer": -1})
    with open_run(tmp_path / "r") as run, Journal(tmp_path / "j") as journal:
        strategy = all_strategies()["teacher-score"].make
        await write_row(context, run, journal, problem, strategy=strategy)
    (row,) = read_run(tmp_path / "r").trajectories
    assert row.attempts == 3
    assert row.cost.requests["student"] == len(requests_of(context, "student"))


@pytest.mark.parametrize("case", ["teacher-score", "by answer"])
async def test_the_saved_state_does_not_grow_with_finished_candidates(case):
    sizes: list[tuple[int, int]] = []

    saved = SavedSample()

    def save(pieces, state):
        saved.save(pieces, state)
        sizes.append((sum(len(dump_piece(piece)) for piece in pieces), len(state.dump(0))))

    options = {"save": save}
    await make(case, make_context(case, student_text=candidates, candidates=4), **options)
    half = len(sizes) // 2
    for kind in (0, 1):
        early, late = (max(size[kind] for size in part) for part in (sizes[:half], sizes[half:]))
        assert late < early * 1.5


@pytest.mark.parametrize(
    ("judgement", "score"),
    [
        ("Fine.\n\nScore: 7", 7.0),
        ("Score: 7.5", 7.5),
        ("**Score: 10**", 10.0),
        ("score: 0/10.", 0.0),
        ("**Score:** 8 / 10\n", 8.0),
        ("Score 3", 3.0),
        ("`Score: 8`", 8.0),
        ("### Final score: 9", 9.0),
        (r"Score: $\boxed{8}$", 8.0),
        (r"Score: \boxed{7.5/10}.", 7.5),
        ("**Score**：6", 6.0),
        (r"Score: \boxed{8", None),
        ("Score: 8}", None),
        ("Do not score: 10", None),
        ("Score: 1000", None),
        ("Score: 7\nThat is all.", None),
        ("Score: 11", None),
        ("Score: -1", None),
        ("Score: 7 or 8", None),
        ("Score: N", None),
        ("7", None),
        ("", None),
    ],
)
def test_a_score_is_the_last_line_and_nothing_else(judgement, score):
    assert parse_score(judgement) == score


async def test_a_conversation_is_judged_as_a_whole():
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="5 - 3 * 2?"),
    )
    context = make_context("teacher-score")
    attempt = attempt_of("teacher-score", context)
    attempt.problem = Problem(id="p", messages=turns)
    row = await all_strategies()["teacher-score"].make(attempt)
    assert row.messages[:-1] == turns
    read = decode(RENDERERS["harmony"].codec, requests_of(context, "teacher")[0].prompt.ids)
    assert "[system]\nBe brief.\n\n[user]\n5 - 3 * 2?" in read
