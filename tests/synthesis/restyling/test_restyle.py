"""Strategy ``restyle`` with a scripted student whose likelihoods are known."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessy.core.errors import SampleFailed
from tessy.core.records import StyleSpan, Trajectory, unpack_ids
from tessy.inference.base import ScoredToken
from tessy.runtime.stop import Draining
from tessy.synthesis.restyling.choice import choose
from tessy.synthesis.restyling.estimate import split
from tessy.synthesis.restyling.thinking import keeps_in_order
from tessy.synthesis.resume import SampleState
from tessy.synthesis.strategies.restyle import restyle
from tessy.tokenization.token_ids import decode
from tests.support.restyling import (
    ANSWER,
    RENDERER,
    StudentOfStyle,
    WordRule,
    has_no_digit,
    make_context,
    restyled,
    trace_problem,
)
from tests.support.saved_samples import SavedSample
from tests.synthesis.test_sample import make_attempt

THINKING = "We need to compute: 3 * 2 = 6.\n\nHence we obtain 5 - 6 = -1 now. Final words"
CAPABILITY = ["3 * 2 = 6.", "5 - 6 = -1"]
PHRASES = {"Okay,": 0.5, "Hmm, so": 0.3, "": 0.2}


def pieces(row: Trajectory, author: str) -> list[str]:
    return [row.thinking[s.start : s.end].strip() for s in row.spans if s.author == author]


def check(row: Trajectory) -> None:
    """Check what holds for every row."""
    codec = RENDERER.codec
    assert row.student_ids is not None
    ids = unpack_ids(row.student_ids.thinking)
    assert decode(codec, ids) == row.thinking == row.thinking.strip()
    assert row.tokens.student + row.tokens.teacher == len(ids)
    assert row.messages[-1].content == f"<think>\n{row.thinking}\n</think>\n\n{row.answer}"


async def test_capability_stays_and_style_is_the_students():
    row = await restyled(make_context(StudentOfStyle(PHRASES)), trace_problem(THINKING))
    check(row)
    assert pieces(row, "teacher") == CAPABILITY
    assert set(pieces(row, "student")) <= set(PHRASES)
    assert (row.answer, row.answer_by, row.ended_by) == (ANSWER, "student", "student")
    assert row.restyle is not None
    assert (row.restyle.draws, row.restyle.unfit) == ((4, 4), 0)


@pytest.mark.parametrize("count", [2, 4])
async def test_the_choice_follows_the_likelihood_of_what_follows(count):
    """Chi-squared over many places against the exact distribution of the resampling."""
    phrases = {"Okay,": 0.5, "Hmm, so": 0.3, "Wait:": 0.2}
    weights = {"Okay,": 0.1, "Hmm, so": 1.0, "Wait:": 0.4}

    def likelihood(before: str) -> float:
        return next((weights[p] for p in phrases if before.endswith(p)), 0.1)

    expected = dict.fromkeys(phrases, 0.0)
    for draws in itertools.product(phrases, repeat=count):
        chance = math.prod(phrases[phrase] for phrase in draws)
        total = sum(weights[phrase] for phrase in draws)
        for phrase in draws:
            expected[phrase] += chance * weights[phrase] / total
    thinking = "".join(f"Now we add {n} and\n" for n in range(40)) + "end 9"
    rule = WordRule(lambda unit: has_no_digit(unit) and "and" not in unit)
    found: Counter[str] = Counter()
    for number in range(12):
        context = make_context(
            StudentOfStyle(phrases, likelihood, ends=0.0), candidates=count, rule=rule, seed=number
        )
        row = await restyled(context, trace_problem(thinking))
        found.update(p for p in pieces(row, "student") if p in phrases)
    places = sum(found.values())
    assert places > 400
    chi2 = sum((found[p] - places * expected[p]) ** 2 / (places * expected[p]) for p in phrases)
    assert chi2 < 13.8  # 0.1 % of right samplers exceed it, by two degrees of freedom
    # The test can tell it from the draws themselves, and from the likeliest one.
    assert abs(expected["Okay,"] - phrases["Okay,"]) > 0.15
    assert found["Okay,"] > 0


WORDS = st.sampled_from(
    [
        "so",
        "we",
        "get",
        "12",
        "3 + 4 = 7",
        "wait,",
        "x_1",
        "f(x)",
        "Hmm.",
        "\n\n",
        "\n",
        "好的",
        "-",
        "**ok**",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(WORDS, min_size=1, max_size=25), salt=st.integers(0, 9), seed=st.integers(0, 99)
)
async def test_capability_is_kept_whatever_the_trace_and_the_rule(words, salt, seed):
    thinking = re.sub(r" ?(\n+) ?", r"\1", " ".join(words)).strip()
    if not thinking:
        return
    rule = WordRule(lambda unit: Random(f"{salt}{unit.strip()}").random() < 0.5)
    context = make_context(StudentOfStyle(PHRASES), rule=rule, seed=seed, candidates=2)
    problem = trace_problem(thinking)
    assert problem.trace is not None
    places = await split("p", problem.trace, rule, "discard")
    assert "".join(style + capability for style, capability in places) == thinking
    capability = [place.capability for place in places if place.capability.strip()]
    for place in places:
        assert not re.search(r"[0-9=_(*]", place.style)
    if not capability:
        with pytest.raises(SampleFailed, match="no_capability"):
            await restyled(context, problem)
        return
    row = await restyled(context, problem)
    check(row)
    assert keeps_in_order(row.thinking, capability)
    assert row.restyle is not None
    if not row.restyle.unfit:  # else the teacher's spans have style of the trace, too
        taught = "".join(pieces(row, "teacher"))
        assert "".join(taught.split()) == "".join("".join(capability).split())


async def test_a_sample_resumes_from_any_saved_state_to_the_same_row():
    saved = SavedSample()
    problem = trace_problem(THINKING)
    whole = await restyled(make_context(StudentOfStyle(PHRASES)), problem, save=saved.save)
    assert len(saved.loaded) >= 4
    for state in saved.loaded:
        again = await restyled(make_context(StudentOfStyle(PHRASES)), problem, saved=state)
        unlike = {"seconds", "cost"}
        assert again.model_dump(exclude=unlike) == whole.model_dump(exclude=unlike)
        assert again.cost.requests == whole.cost.requests


async def test_the_progress_counts_saved_parts_once():
    async def kept(saved: SampleState | None) -> int:
        attempt = make_attempt(
            make_context(StudentOfStyle(PHRASES)), problem=problem, save=sample.save, saved=saved
        )
        await restyle(attempt)
        return int(attempt.progress.tokens["student"])

    problem, sample = trace_problem(THINKING), SavedSample()
    whole = await kept(None)
    states = [state for state in sample.loaded if state.thinking is None and not state.answer]
    counts = [await kept(state) for state in states]
    assert counts[0] == whole  # before the first part
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts) >= 3


async def test_a_sample_that_is_interrupted_before_its_first_place_keeps_its_attempt():
    """The seeds of another attempt would give another row."""
    saved = SavedSample()
    context = make_context(StudentOfStyle(PHRASES))
    attempt = make_attempt(context, problem=trace_problem(THINKING), number=3, save=saved.save)

    def interrupt() -> None:
        raise Draining

    attempt.checkpoint = interrupt
    with pytest.raises(Draining):
        await restyle(attempt)
    assert [state.attempt for state in saved.loaded] == [3]


async def test_more_candidates_are_drawn_where_none_fits():
    """The likelihood is that of the trace's own words only after a rare phrase."""
    phrases = {"Okay,": 0.9, "Right:": 0.1}

    def likelihood(before: str) -> float:
        return 1e-9 if before.endswith("Okay,") else 1.0

    row = await restyled(make_context(StudentOfStyle(phrases, likelihood)), trace_problem(THINKING))
    assert row.restyle is not None
    assert max(row.restyle.draws) in (8, 16, 32)
    assert "Right:" in pieces(row, "student")


@pytest.mark.parametrize("unfit", ["keep", "fail"])
async def test_a_place_without_a_fitting_candidate_keeps_the_trace_or_fails(unfit):
    def likelihood(before: str) -> float:
        return 1.0 if before.endswith(("compute:", "obtain")) else 1e-9

    context = make_context(StudentOfStyle({"Okay,": 1.0}, likelihood), unfit=unfit)
    if unfit == "fail":
        with pytest.raises(SampleFailed, match="no_fitting_style: none of 32 candidates"):
            await restyled(context, trace_problem(THINKING))
        return
    row = await restyled(context, trace_problem(THINKING))
    check(row)
    assert row.thinking.startswith("We need to compute: 3 * 2 = 6.\n\nHence we obtain 5 - 6 = -1")
    assert row.restyle is not None
    assert (row.restyle.unfit, row.restyle.draws) == (2, (32, 32))


@pytest.mark.parametrize("undefined", [math.nan, -math.inf])
async def test_a_likelihood_that_is_no_number_is_none_of_a_fitting_candidate(
    undefined, monkeypatch
):
    """For example that of a token which the model cannot write."""
    engine = StudentOfStyle({"Okay,": 1.0})
    score = engine.score

    async def scores(*of: Any, **more: Any) -> list[ScoredToken]:
        return [token._replace(logprob=undefined) for token in await score(*of, **more)]

    monkeypatch.setattr(engine, "score", scores)
    row = await restyled(make_context(engine), trace_problem(THINKING))
    check(row)
    assert row.restyle is not None
    assert (row.restyle.unfit, row.restyle.draws) == (2, (32, 32))
    assert choose([undefined, -5.0, undefined], seed=1) == (1, 1.0)


async def test_the_end_is_redrawn_until_the_student_ends_its_thinking():
    draws = []
    for seed in range(20):
        row = await restyled(
            make_context(StudentOfStyle(PHRASES, ends=0.3), seed=seed), trace_problem(THINKING)
        )
        assert row.restyle is not None
        draws.append(row.restyle.end_draws)
        assert row.ended_by == ("student" if not row.restyle.unfit else "teacher")
    assert 1 in draws
    assert any(1 < count <= 9 for count in draws)


@pytest.mark.parametrize("unfit", ["keep", "fail"])
async def test_an_end_that_the_student_never_writes_is_the_traces_or_a_failure(unfit):
    context = make_context(StudentOfStyle(PHRASES, ends=0.0), unfit=unfit)
    if unfit == "fail":
        with pytest.raises(SampleFailed, match="did not end its thinking in 9 draws"):
            await restyled(context, trace_problem(THINKING))
        return
    row = await restyled(context, trace_problem(THINKING))
    check(row)
    assert row.thinking.endswith("now. Final words")
    assert (row.ended_by, row.restyle and row.restyle.unfit) == ("teacher", 1)


async def test_one_candidate_is_kept_without_scores():
    engine = StudentOfStyle(PHRASES)
    row = await restyled(make_context(engine, candidates=1), trace_problem(THINKING))
    assert engine.scored == []
    assert row.restyle is not None
    assert (row.restyle.draws, row.restyle.scored_tokens) == ((1, 1), 0)


async def test_equal_candidates_are_scored_once_and_the_traces_words_too():
    engine = StudentOfStyle({"Okay,": 1.0}, ends=0.0)
    await restyled(make_context(engine, candidates=8), trace_problem(THINKING))
    assert [before for before, _ in engine.scored] == [
        "Okay,",
        "We need to compute:",
        "Okay, 3 * 2 = 6.\n\nOkay,",
        "Okay, 3 * 2 = 6.\n\nHence we obtain",
    ]


async def test_style_that_a_request_cuts_is_not_chosen():
    long = "and so on, " * 30 + "then"
    for seed in range(6):
        engine = StudentOfStyle({long: 0.5, "Okay,": 0.5}, ends=0.0)
        row = await restyled(make_context(engine, seed=seed), trace_problem(THINKING))
        assert not any("and so on" in piece for piece in pieces(row, "student"))


async def test_greedy_sampling_draws_no_more_where_nothing_fits():
    def likelihood(before: str) -> float:
        return 1e-9 if before.endswith("Okay,") else 1.0

    engine = StudentOfStyle({"Okay,": 1.0}, likelihood)
    row = await restyled(make_context(engine, temperature=0.0), trace_problem(THINKING))
    assert row.restyle is not None
    assert row.restyle.draws == (4, 4)


async def test_greedy_sampling_draws_the_end_once():
    engine = StudentOfStyle({"Okay,": 1.0}, ends=0.0)
    row = await restyled(make_context(engine, temperature=0.0), trace_problem(THINKING))
    assert row.restyle is not None
    assert (row.restyle.end_draws, row.restyle.unfit) == (1, 1)
    context = make_context(engine, temperature=0.0, unfit="fail")
    with pytest.raises(SampleFailed, match="did not end its thinking in 1 draw"):
        await restyled(context, trace_problem(THINKING))


async def test_the_answer_of_the_trace_can_be_kept():
    context = make_context(StudentOfStyle(PHRASES), keeps_answer=True)
    row = await restyled(context, trace_problem(THINKING, "The result: 4."))
    check(row)
    assert (row.answer, row.answer_by) == ("The result: 4.", "teacher")
    assert row.tokens.drafted["teacher"] == 0


async def test_annotated_style_takes_precedence_over_the_rule():
    spans = (StyleSpan(start=0, end=len("We need to compute:")),)
    row = await restyled(
        make_context(StudentOfStyle(PHRASES)), trace_problem(THINKING, style=spans)
    )
    check(row)
    assert pieces(row, "teacher") == [THINKING[len("We need to compute: ") :]]
    assert row.restyle is not None
    assert row.restyle.split_by == "annotation"


async def test_a_trace_without_capability_fails():
    with pytest.raises(SampleFailed, match="no_capability: reference takes the whole trace"):
        await restyled(make_context(StudentOfStyle(PHRASES)), trace_problem("Hmm, let me see."))


async def test_a_thinking_beyond_its_budget_fails():
    context = make_context(StudentOfStyle(PHRASES), thinking_tokens=12)
    with pytest.raises(SampleFailed, match="budget: the thinking reached 12 tokens"):
        await restyled(context, trace_problem(THINKING))


@pytest.mark.parametrize("unfit", ["keep", "fail"])
async def test_capability_without_room_fails_before_a_draw(unfit):
    engine = StudentOfStyle(PHRASES)
    context = make_context(engine, thinking_tokens=12, unfit=unfit)
    with pytest.raises(SampleFailed, match="budget: the thinking reached 12 tokens"):
        await restyled(context, trace_problem("We compute " + "3 * 2 = " * 8 + "6"))
    assert engine.scored == []


async def test_a_candidate_that_leaves_no_room_for_the_capability_is_not_scored():
    """It would exceed the context of the model, which refuses such a text."""
    capability = "3 * 2 = 6 + 0 = 5 + 1 = 6"
    long = "Okay, so:"

    def likelihood(before: str) -> float:
        return 1.0 if before.endswith(("Hmm:", "We get", long)) else 1e-9

    engine = StudentOfStyle({long: 0.5, "Hmm:": 0.5}, likelihood, ends=0.0)
    tokens = len(RENDERER.codec.encode(f"{long} {capability}"))
    context = make_context(engine, thinking_tokens=tokens - 1, candidates=8)
    row = await restyled(context, trace_problem(f"We get {capability}"))
    assert row.thinking.startswith(f"Hmm: {capability}")
    assert long not in {before for before, _ in engine.scored}


@pytest.mark.parametrize("phrase", ["", "好"])
async def test_numbers_beside_dropped_style_stay_two_numbers(phrase):
    thinking = "我们计算这个表达式的值并且检查每一步是否正确" * 2 + "得到结果为12那么34就是答案"
    start = thinking.index("那么")
    problem = trace_problem(thinking, style=(StyleSpan(start=start, end=start + 2),))
    row = await restyled(make_context(StudentOfStyle({phrase: 1.0}, ends=0.0)), problem)
    check(row)
    assert "1234" not in row.thinking


async def test_code_in_a_fenced_block_is_never_replaced():
    code = "```python\n# Wait, okay so\nfor i in items:\n    pass\n```"
    thinking = f"So we write\n{code}\nand then 3 * 2 = 6."
    rule = WordRule(lambda unit: has_no_digit(unit))
    row = await restyled(make_context(StudentOfStyle(PHRASES), rule=rule), trace_problem(thinking))
    assert code in row.thinking
    marked = trace_problem(thinking, style=(StyleSpan(start=0, end=len(thinking) - 10),))
    assert code in (await restyled(make_context(StudentOfStyle(PHRASES)), marked)).thinking
