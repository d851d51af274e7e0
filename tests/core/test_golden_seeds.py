"""Values of every derivation of a seed.

With other values, runs of earlier versions would resume to other texts or draw other samples.
"""

from __future__ import annotations

from typing import Any

import pytest

from tessy.boundary.annotation.segments import draw_segments
from tessy.boundary.evaluation.drafts import draw_drafts, to_segment
from tessy.boundary.training.dataset import part_of
from tessy.core.errors import EngineUnavailable, SampleFailed
from tessy.core.records import Message, Problem
from tessy.core.seeds import derive_seed
from tessy.data.mix import draw as draw_mix
from tessy.inference.http.wires.base import fit_seed
from tessy.inference.local.sampling import uniform
from tessy.lab.bundled import demo_problems
from tessy.plan.pilot import draw as draw_pilot
from tests.support.annotate_command import config, fill_responses
from tests.support.annotate_command import run as annotate
from tests.support.annotations import questions
from tests.support.chat_server import FakeChat
from tests.support.cooperation_driver import CODECS, PROMPTS, Always, alone, run
from tests.support.counting_engine import Server, collect, make_request, pool_of
from tests.support.rows import row
from tests.support.scripted_strategies import make, make_context, requests_of
from tests.synthesis.test_sample import make_attempt

# First and last requests: look-ahead may add some between them.
FIRST_AND_LAST: dict[str, dict[str, tuple[int, int]]] = {
    "student-only": {
        "student": (4102698991093162333, 5851899798498772088),
    },
    "teacher-only": {
        "teacher": (7233501185233318485, 5851899798498772088),
    },
    "teacher-think": {
        "student": (5851899798498772088, 5851899798498772088),
        "teacher": (7233501185233318485, 7233501185233318485),
    },
    "teacher-answer": {
        "student": (4102698991093162333, 4102698991093162333),
        "teacher": (5851899798498772088, 5851899798498772088),
    },
    "teacher-score": {
        "student": (4815932333897465273, 5883521846638437246),
        "teacher": (8472431258455512989, 442346805199054476),
    },
    "by answer": {
        "student": (4815932333897465273, 290824968264276751),
    },
    "teacher-reference": {
        "student": (4102698991093162333, 5851899798498772088),
        "teacher": (1220522030344775261, 7186312578976283532),
    },
    "answer_by": {
        "student": (8399783536891014270, 5684393486140725010),
        "teacher": (4755505876489589416, 5851899798498772088),
    },
}


@pytest.mark.parametrize(
    ("parts", "seed"),
    [
        ((), 8238016292129134938),
        ((0,), 6711488920161924273),
        (("0",), 7229554788928137032),
        ((3, "p", 0, 1, "student", 0, 0, 0), 8399783536891014270),
        (("naïve 好", 2**63), 1481592088912682199),
        (("\ud83d", -1), 1402713138810385000),
        (("a", "b"), 8662206895790957538),
        (("a\x1fstr:b",), 8662206895790957538),
    ],
)
def test_a_seed_is_a_hash_of_its_parts(parts: tuple[Any, ...], seed: int):
    assert derive_seed(*parts) == seed


@pytest.mark.parametrize(
    ("sample", "number", "place", "seed"),
    [
        (0, 1, ("student", 0, 0, 0), 8399783536891014270),
        (1, 1, ("student", 0, 0, 0), 741358669018725054),
        (0, 2, ("student", 0, 0, 0), 1662021300998955420),
        (0, 1, ("teacher", 17, 4, 2), 7673547417400611819),
    ],
)
def test_the_seed_of_a_request_depends_on_run_seed_problem_sample_attempt_and_position(
    sample, number, place, seed
):
    attempt = make_attempt(make_context("answer_by"), number=number)
    attempt.sample = sample
    assert attempt.seed(*place) == seed


@pytest.mark.parametrize("case", FIRST_AND_LAST)
async def test_requests_of_every_strategy_have_these_seeds(case):
    context = make_context(case)
    await make(case, context)
    seeds = {author: [r.seed for r in requests_of(context, author)] for author in context.backends}
    assert {a: (s[0], s[-1]) for a, s in seeds.items()} == FIRST_AND_LAST[case]


def test_requests_of_a_turn_are_seeded_by_author_position_and_redraw():
    predictors = {"student": Always(0.3), "teacher": Always(0.9)}
    machine, engines, _ = alone(
        lambda text, seed: CODECS["student"].encode(" w" if text else "w"),
        teacher=lambda text, seed: CODECS["teacher"].encode(" w" if text else "w"),
        predictors=predictors,
        redraws=True,
        budget=12,
    )
    with pytest.raises(SampleFailed, match="budget"):
        run(machine, engines, predictors)
    first = len(PROMPTS["teacher"]) + 1
    redraws = [r.seed for r in engines["teacher"].requests if len(r.prompt) == first]
    assert redraws == [7600443303563643837, 2491488737589071031, 2265838616586610677]


async def test_a_broken_stream_is_continued_with_a_seed_of_its_length():
    server = Server(faults=[(3, EngineUnavailable("broke"))])
    async with pool_of(server) as pool:
        await collect(pool, make_request(max_tokens=20))
    assert [request.seed for request in server.seen] == [7, 6570489577246834173]


def test_the_local_engine_draws_these_numbers():
    assert [uniform(7, 0), uniform(7, 1), uniform(2**63 - 1, 12)] == [
        0.6236049527952496,
        0.8287500375490394,
        0.05331675350426157,
    ]


def test_a_server_with_fewer_bits_gets_the_lowest_bits():
    assert fit_seed(2**62 + 2**31 + 5, 31) == 5


def test_the_pilot_of_a_plan_has_these_problems():
    messages = (Message(role="user", content="?"),)
    problems = [Problem(id=f"q{n}", messages=messages) for n in range(9)]
    assert sorted(draw_pilot(problems, 2, 3, 1)) == [("q1", 0), ("q3", 0), ("q5", 0)]


def test_a_mix_has_these_samples():
    keys = {(f"q{n}", 0) for n in range(8)}
    drawn = draw_mix(keys, keys, (4, 4), 3)
    assert sorted(name for (name, _), run in drawn.items() if run == 0) == ["q3", "q4", "q5", "q7"]


def test_annotation_draws_these_segments():
    text = " ".join(map(str, range(40)))
    responses = [row(name, thinking=text) for name in "ab"]
    drawn = draw_segments(responses, size=5, per_response=3, total=4, seed=1)
    assert [(s.id, s.start, s.text) for s in drawn] == [
        ("a", 32, "14 15 16 17 18"),
        ("b", 0, "0 1 2 3 4"),
        ("a", 62, "24 25 26 27 28"),
        ("b", 20, "10 11 12 13 14"),
    ]


def test_problems_are_split_into_these_parts():
    parts = [part_of(f"{n:016x}", 0, 0.3, 0.3) for n in range(8)]
    assert parts == [
        "test",
        "validation",
        "test",
        "validation",
        "validation",
        "train",
        "validation",
        "test",
    ]


def test_an_evaluation_draws_these_drafts():
    segments = [to_segment(row) for row in questions(3)]
    drafts = draw_drafts(segments, tokens=5, count=4, seed=0, cut="discard")
    assert [(d.segment.key, d.first) for d in drafts] == [
        (("q000", 0, 0), 13),
        (("q000", 0, 1), 1),
        (("q001", 0, 2), 8),
        (("q002", 0, 1), 18),
    ]


def test_the_demo_has_these_problems():
    assert [p.messages[0].content for p in demo_problems(2, 3)] == [
        "What is 8 * 6 * 5 + 8? Work from left to right, modulo ten.",
        "Please calculate 2 + 5 - 9 * 8 - 9 from left to right and keep it modulo ten.",
    ]


def test_annotators_get_a_seed_for_each_segment_and_attempt(tmp_path):
    responses = fill_responses(tmp_path / "responses")
    with FakeChat() as server:
        annotate(config(responses, server))
    assert sorted(body["seed"] for body in server.seen)[:3] == [36794777, 56053749, 83209168]
