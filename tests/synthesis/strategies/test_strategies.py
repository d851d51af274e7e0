"""Every strategy, with real chat formats and scripted models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tessy.core.errors import SampleFailed
from tessy.core.records import AUTHORS, unpack_ids
from tessy.synthesis.strategies.registry import all_strategies
from tessy.tokenization.token_ids import decode
from tests.support.saved_samples import SavedSample
from tests.support.scripted_strategies import (
    CASES,
    TEACHERS,
    attempt_of,
    authors,
    candidates,
    make,
    make_context,
    requests_of,
)
from tests.synthesis.test_sample import PROBLEM, RENDERERS

PAIRS = pytest.mark.parametrize(
    ("student", "teacher"),
    [("qwen3", "harmony"), ("deepseek_r1", "qwen3"), ("harmony", "deepseek_r1")],
)
EVERY = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch):
    """Limit requests to a few tokens, so that short texts take several requests."""
    monkeypatch.setattr("tessy.synthesis.response_writer.REQUEST_TOKENS", 7)


@PAIRS
@EVERY
async def test_every_row_is_in_the_students_format_and_names_the_authors(case, student, teacher):
    context = make_context(case, student, teacher)
    row = await make(case, context)
    thinking, answer = CASES[case][2]
    thinks, answers = authors(case)
    assert (row.strategy, row.thinking, row.answer) == (CASES[case][0], thinking, answer)
    assert {span.author for span in row.spans} == thinks
    assert row.answer_by == answers
    assert row.ended_by in thinks
    assert row.messages[:-1] == PROBLEM.messages
    assert row.messages[-1].content == f"<think>\n{thinking}\n</think>\n\n{answer}"
    codec = RENDERERS[student].codec
    assert row.student_ids is not None
    ids, answer_ids = unpack_ids(row.student_ids.thinking), unpack_ids(row.student_ids.answer)
    assert decode(codec, ids) == thinking
    assert decode(codec, answer_ids) == answer
    kept = {"student": row.tokens.student, "teacher": row.tokens.teacher}
    assert sum(kept.values()) == len(ids)
    assert {author for author in AUTHORS if kept[author]} == thinks
    assert row.tokens.answer == len(answer_ids)
    for author in AUTHORS:
        sent = len(requests_of(context, author)) if author in context.backends else 0
        assert row.cost.requests[author] == sent
        assert (row.tokens.drafted[author] > 0) <= (author in context.backends)


@EVERY
async def test_no_two_requests_draw_with_the_same_seed(case):
    context = make_context(case)
    await make(case, context)
    seeds = [
        request.seed for author in context.backends for request in requests_of(context, author)
    ]
    assert len(seeds) > 4
    assert len(set(seeds)) == len(seeds)


@PAIRS
@pytest.mark.parametrize("case", ["teacher-only", "teacher-answer", "answer_by"])
async def test_a_teacher_that_answers_reads_the_thinking_in_its_own_format(case, student, teacher):
    context = make_context(case, student, teacher)
    await make(case, context)
    renderer = RENDERERS[teacher]
    first = next(
        r
        for r in requests_of(context, "teacher")
        if r.stop_ids == tuple(sorted(renderer.answer_stop_ids))
    )
    begins = renderer.prompt_text(PROBLEM.messages)
    assert decode(renderer.codec, first.prompt.ids) == (
        f"{begins}{CASES[case][2][0]}{renderer.shape.closing}"
    )


@PAIRS
async def test_a_student_that_answers_reads_the_teachers_thinking_in_its_own_format(
    student, teacher
):
    context = make_context("teacher-think", student, teacher)
    await make("teacher-think", context)
    renderer = RENDERERS[student]
    begins = renderer.prompt_text(PROBLEM.messages)
    assert decode(renderer.codec, requests_of(context, "student")[0].prompt.ids) == (
        f"{begins}{TEACHERS[0]}{renderer.shape.closing}"
    )


async def test_a_teacher_answers_without_reading_white_space_before_its_end_marker():
    short = "Okay, let's see.\n\nWe get 5 - 3 = 2."
    # The teacher would continue with style, and the student ends the thinking there.
    context = make_context("answer_by", together=(f"{short}\n\n", f"{short}\n\nDone."))
    row = await make("answer_by", context)
    assert (row.thinking, row.ended_by) == (short, "student")
    assert row.spans[-1].author == "teacher"
    renderer = RENDERERS["harmony"]
    stops = tuple(sorted(renderer.answer_stop_ids))
    first = next(r for r in requests_of(context, "teacher") if r.stop_ids == stops)
    assert decode(renderer.codec, first.prompt.ids).endswith(f" 2.{renderer.shape.closing}")


async def test_the_reference_is_in_the_students_prompt_and_in_a_field_but_not_in_the_messages():
    context = make_context("teacher-reference")
    row = await make("teacher-reference", context)
    assert row.reference_answer == TEACHERS[1]
    read = decode(RENDERERS["qwen3"].codec, requests_of(context, "student")[0].prompt.ids)
    assert f"<reference>\n{TEACHERS[1]}\n</reference>" in read
    assert PROBLEM.messages[0].content in read
    assert TEACHERS[1] not in json.dumps([turn.content for turn in row.messages])
    whole = sum(len(RENDERERS["harmony"].codec.encode(text)) for text in TEACHERS)
    assert row.tokens.drafted["teacher"] == whole


@pytest.mark.parametrize(
    ("case", "reason"), [("teacher-reference", "empty_answer"), ("teacher-only", "empty_answer")]
)
async def test_a_failed_teacher_text_is_in_the_failure_row(case, reason):
    context = make_context(case, teacher_text=lambda *_: (TEACHERS[0], " "))
    attempt = attempt_of(case, context)
    with pytest.raises(SampleFailed) as failed:
        await all_strategies()[CASES[case][0]].make(attempt)
    row = attempt.failure(failed.value.reason, failed.value.detail)
    assert (row.reason, row.thinking, row.answer_by) == (reason, TEACHERS[0], "teacher")
    assert {span.author for span in row.spans} == {"teacher"}
    assert row.tokens.teacher == len(RENDERERS["qwen3"].codec.encode(TEACHERS[0]))


@pytest.mark.parametrize("case", ["teacher-only", "teacher-think"])
async def test_a_teachers_budget_is_in_the_students_tokens(case):
    long = " ".join(f"{n} times {n} is {n * n};" for n in range(60))
    texts: dict[str, Any] = {"teacher_text": lambda *_: (long, TEACHERS[1])}
    tokens = len(RENDERERS["qwen3"].codec.encode(long))
    row = await make(case, make_context(case, thinking_tokens=tokens + 1, **texts))
    assert row.tokens.teacher == tokens
    for less in (tokens - 1, tokens // 2):
        context = make_context(case, thinking_tokens=less, **texts)
        with pytest.raises(SampleFailed, match=f"budget: the thinking reached {less} tokens"):
            await make(case, context)


async def test_a_context_that_is_full_is_a_budget_failure():
    long = " ".join(f"{n} times {n} is {n * n};" for n in range(60))
    context = make_context("teacher-only", teacher_text=lambda *_: (long, TEACHERS[1]), context=300)
    with pytest.raises(SampleFailed, match="budget: no room for the thinking"):
        await make("teacher-only", context)


@EVERY
async def test_a_sample_resumes_from_any_saved_state_to_the_same_row(case):
    texts: dict[str, Any] = (
        {"student_text": candidates} if CASES[case][0] == "teacher-score" else {}
    )
    saved = SavedSample()
    context = make_context(case, **texts)
    whole = await make(case, context, save=saved.save)
    seeds = {author: [r.seed for r in requests_of(context, author)] for author in context.backends}
    assert len(saved.loaded) >= 8
    for state in saved.loaded:
        context = make_context(case, **texts)
        row = await make(case, context, saved=state)
        unlike = {"seconds", "cost"}
        assert row.model_dump(exclude=unlike) == whole.model_dump(exclude=unlike)
        # Finished parts are not requested again; the others have the same seeds.
        assert row.cost.requests == whole.cost.requests
        for author in context.backends:
            again = [request.seed for request in requests_of(context, author)]
            assert seeds[author][len(seeds[author]) - len(again) :] == again
