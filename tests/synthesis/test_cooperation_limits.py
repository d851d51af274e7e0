"""Units that both authors reject, and the ends of a thinking."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessy.core.errors import SampleFailed
from tessy.inference.scripted import END_THINKING, EOS
from tests.support.cooperation_driver import (
    CODECS,
    PROMPTS,
    Always,
    ReferenceClasses,
    alone,
    in_parts,
    make,
    run,
)


def test_one_unit_is_forced_if_neither_author_continues_and_no_redraw_can_help():
    predictors = {
        "student": Always(0.4, sees_next=True),  # own class 0.4
        "teacher": Always(0.7, sees_next=True),  # own class 0.3
    }
    machine, engines, _ = alone(
        in_parts(CODECS["student"], "Okay, so on", " a b", (" c", END_THINKING)),
        predictors=predictors,
    )
    run(machine, engines, predictors)
    assert machine.thinking.forced["student"] >= 1
    assert machine.thinking.forced["teacher"] == 0
    assert len(engines["teacher"].requests) == 0  # no draft was requested


@pytest.mark.parametrize(("redraws", "expected"), [(True, 3), (False, 1)])
def test_drafts_are_redrawn_at_most_twice_with_fresh_seeds(redraws, expected):
    predictors = {"student": Always(0.3), "teacher": Always(0.9)}

    def words(codec):
        return lambda text, seed: codec.encode(" w" if text else "w") + codec.encode(" w w")

    machine, engines, _ = alone(
        words(CODECS["student"]),
        teacher=words(CODECS["teacher"]),
        predictors=predictors,
        redraws=redraws,
        budget=12,
    )
    with pytest.raises(SampleFailed, match="budget"):
        run(machine, engines, predictors)
    first = [r for r in engines["teacher"].requests if len(r.prompt) == len(PROMPTS["teacher"]) + 1]
    assert len(first) == expected
    assert len({r.seed for r in first}) == expected
    assert machine.thinking.forced["student"] > 0 == machine.thinking.forced["teacher"]


def test_on_a_tie_the_student_writes_the_forced_unit():
    predictors = {"student": Always(0.4), "teacher": Always(0.6)}
    machine, engines, _ = alone(
        lambda text, seed: CODECS["student"].encode(" a b c"),
        teacher=lambda text, seed: CODECS["teacher"].encode(" a b c"),
        predictors=predictors,
        redraws=False,
        budget=10,
    )
    with pytest.raises(SampleFailed, match="budget"):
        run(machine, engines, predictors)
    assert machine.thinking.forced["student"] > 0 == machine.thinking.forced["teacher"]


def test_an_empty_thinking_is_a_failure():
    machine, engines, predictors = alone(in_parts(CODECS["student"], (" \n", END_THINKING)))
    with pytest.raises(SampleFailed) as failure:
        run(machine, engines, predictors)
    assert failure.value.reason == "empty_thinking"


@pytest.mark.parametrize(
    "loop",
    [" again and again and", "\n" * 9, "好好学习", " x"],
    ids=["words", "blank", "han", "short"],
)
def test_a_growing_loop_is_detected(loop):
    def script(text, seed):
        return CODECS["student"].encode("Okay" + loop * 3 if not text else loop * 10)

    machine, engines, predictors = alone(script, budget=20_000)
    with pytest.raises(SampleFailed) as failure:
        run(machine, engines, predictors)
    assert failure.value.reason == "repetition"
    assert len(engines["student"].requests) < 60


def test_a_full_context_is_a_budget_failure():
    machine, engines, predictors = alone(
        lambda text, seed: CODECS["student"].encode(f" {seed} {len(text)}"), context=300
    )
    with pytest.raises(SampleFailed, match="context is full at 300"):
        run(machine, engines, predictors)


def test_a_model_without_room_for_a_token_gets_no_further_request():
    machine, engines, predictors = alone(lambda text, seed: [], budget=100)
    with pytest.raises(SampleFailed, match="context is full"):
        run(machine, engines, predictors)
    assert len(engines["student"].requests) == 1


def test_control_ids_with_a_normal_span_between_them_do_not_fail_the_sample():
    predictors = {
        "student": Always(1.0),
        "teacher": ReferenceClasses("Okay, x so x", lambda unit: unit != " x", sees_next=False),
    }
    machine, engines, _ = alone(
        in_parts(CODECS["student"], ("Okay,", EOS), (" so", EOS)),
        teacher=in_parts(CODECS["teacher"], " x so x", (" x", END_THINKING)),
        predictors=predictors,
    )
    done = run(machine, engines, predictors)
    assert done.ended_by == "teacher"
    assert machine.thinking.text == "Okay, x so x"


def test_a_thinking_that_has_ended_is_restored_without_its_last_white_space():
    predictors = {
        "student": ReferenceClasses("Okay.\n\nx=1 so", lambda unit: unit != "x=1", sees_next=False),
        "teacher": Always(0.0),
    }
    machine, engines, _ = alone(
        in_parts(CODECS["student"], "Okay.\n\nx=1 so"),
        teacher=in_parts(CODECS["teacher"], (END_THINKING,)),
        predictors=predictors,
    )
    run(machine, engines, predictors)
    restored = make(CODECS, predictors)
    restored.restore(replace(machine.state(), texts=tuple(machine.thinking.take_texts())))
    assert restored.thinking.text == machine.thinking.text == "Okay."
    assert restored.thinking.student_ids == machine.thinking.student_ids
