from __future__ import annotations

import pytest
from pydantic import ValidationError

from tessy.config.base import RoleConfig, SamplingConfig
from tessy.config.synthesis import (
    DemoConfig,
    DoctorConfig,
    SynthesisOptions,
    SynthesizeConfig,
    ViewConfig,
)
from tessy.core.errors import ConfigError
from tessy.synthesis.data_config import data_config
from tessy.synthesis.strategies.registry import answering_model, generating_models, selectable

REQUIRED = {"problems": "q.jsonl", "student": {"model": "s"}, "teacher": {"model": "t"}}


def make(**options: object) -> SynthesizeConfig:
    return SynthesizeConfig.model_validate({**REQUIRED, "out": "runs/x", **options})


@pytest.mark.parametrize(
    "cls", [SamplingConfig, RoleConfig, SynthesizeConfig, DoctorConfig, DemoConfig, ViewConfig]
)
def test_every_field_has_a_docstring_for_the_help(cls):
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name}"
        assert field.description.endswith("."), f"{cls.__name__}.{name}"


def test_configurations_are_frozen_and_refuse_unknown_keys():
    config = make()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]  # mypy sees the mistake this test makes
    with pytest.raises(ValidationError, match="Extra inputs"):
        make(api_key="secret")


@pytest.mark.parametrize(
    ("written", "urls"),
    [
        ("http://a, http://b,", ("http://a", "http://b")),
        (["http://a", "http://b"], ("http://a", "http://b")),
        ("", ()),
    ],
)
def test_urls_can_be_a_list_or_separated_by_commas(written, urls):
    assert RoleConfig.model_validate({"model": "m", "url": written}).url == urls


def test_default_lengths_fit_the_papers_budget():
    config = make()
    assert config.thinking_tokens + config.answer_tokens <= 38_000


@pytest.mark.parametrize(
    "same",
    [
        {"problems": "more.jsonl"},
        {"out": "elsewhere"},
        {"samples_per_problem": 3},
        {"limit": 1},
        {"concurrency": 7},
        {"attempts": 1},
        {"skip_bad_rows": True},
        {"fresh": True},
        {"retry_failed": True},
        {"server_patience_seconds": 1},
        {"student": {"model": "s", "url": "http://other", "api_key_env": "KEY"}},
    ],
)
def test_options_that_do_not_change_rows_are_not_in_data_config(same):
    assert data_config(make(**same)) == data_config(make())


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"cut": "extend"}, "cut"),
        ({"seed": 1}, "seed"),
        ({"thinking_tokens": 5}, "thinking_tokens"),
        ({"fields": {"prompt": "question"}}, "fields"),
        ({"no_ids": True}, "no_ids"),
        ({"student": {"model": "other"}}, "student.model"),
        ({"student": {"model": "s", "draft_tokens": 20}}, "student.draft_tokens"),
        ({"teacher": {"model": "t", "sampling": {"top_k": 5}}}, "teacher.sampling.top_k"),
    ],
)
def test_options_that_change_rows_change_their_key_of_data_config_only(changed, key):
    before, after = data_config(make()), data_config(make(**changed))
    assert {name for name in before | after if before[name] != after[name]} == {key}


def test_new_fields_are_in_data_config_by_default():
    class Extended(SynthesisOptions):
        new: int = 1

    assert data_config(Extended.model_validate(REQUIRED))["new"] == 1


def test_data_config_has_the_content_of_the_lexicon_not_its_path(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("so then")
    two.write_text("so then")
    assert data_config(make(lexicon=one)) == data_config(make(lexicon=two))
    two.write_text("well now")
    assert data_config(make(lexicon=one)) != data_config(make(lexicon=two))


def test_a_missing_lexicon_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"lexicon: cannot read .*nowhere\.txt"):
        data_config(make(lexicon=tmp_path / "nowhere.txt"))


BASELINES = [name for name in selectable() if name not in ("tessy", "restyle")]


def test_options_of_later_versions_are_not_in_data_config_of_the_tessy_strategy():
    names = data_config(make(answer_by="student", candidates=3, score_by="answer"))
    assert names == data_config(make())
    assert not names.keys() & {"strategy", "answer_by", "system_prompt", "candidates", "score_by"}
    assert {"cut", "lexicon", "student.predictor", "teacher.draft_tokens"} <= names.keys()


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"answer_by": "teacher"}, "answer_by"),
        ({"system_prompt": "Be brief."}, "system_prompt"),
        *(({"strategy": name}, "strategy") for name in BASELINES),
    ],
)
def test_options_that_change_rows_are_in_data_config(changed, key):
    assert data_config(make(**changed))[key] == changed[key]


@pytest.mark.parametrize("strategy", BASELINES)
def test_options_that_a_strategy_ignores_are_not_in_its_data_config(strategy):
    with_turns = {
        "cut": "extend",
        "lexicon": "nowhere.txt",
        "student": {"model": "s", "predictor": "p", "window": "sliding-200", "draft_tokens": 5},
        "teacher": {"model": "t", "predictor": "p", "window": "sliding-200", "draft_tokens": 5},
    }
    assert data_config(make(strategy=strategy)) == data_config(
        make(strategy=strategy, **with_turns)
    )


def test_teacher_score_reads_how_candidates_are_scored():
    before = data_config(make(strategy="teacher-score"))
    for changed in ({"candidates": 9}, {"score_by": "answer"}):
        assert data_config(make(strategy="teacher-score", **changed)) != before


def test_restyle_reads_the_options_of_its_rule_and_of_drafts():
    base = {"strategy": "restyle", "problems": (), "traces": "t"}
    before = data_config(make(**base))
    assert before["candidates"] == 8
    assert before == data_config(make(**base, teacher={"model": "another"}))
    for student in ({"predictor": "m:rule"}, {"draft_tokens": 5}):
        changed = data_config(make(**base, student={"model": "s", **student}))
        assert changed != before
    for options in ({"candidates": 3}, {"unfit": "fail"}, {"answer_by": "trace"}):
        assert data_config(make(**base, **options)) != before


def test_options_of_an_unused_model_are_not_in_data_config():
    other = {"model": "o", "sampling": {"top_k": 1}, "reasoning_effort": "low"}
    for options in (
        {"strategy": "student-only"},
        {"strategy": "teacher-score", "score_by": "answer"},
    ):
        config = make(**options)
        assert generating_models(config) == ("student",)
        assert data_config(config) == data_config(make(teacher=other, **options))
    only = make(strategy="teacher-only")
    assert (generating_models(only), answering_model(only)) == (("teacher",), "teacher")
    other["model"] = "s"
    assert data_config(only) == data_config(make(strategy="teacher-only", student=other))
    other["model"] = "another format"
    assert data_config(only) != data_config(make(strategy="teacher-only", student=other))


@pytest.mark.parametrize("strategy", BASELINES)
def test_answer_by_is_refused_with_a_baseline(strategy):
    assert answering_model(make(answer_by="teacher")) == "teacher"
    with pytest.raises(
        ConfigError, match=f"--answer-by: in strategy {strategy} .*leave this option"
    ):
        answering_model(make(strategy=strategy, answer_by="teacher"))


def test_a_blank_system_prompt_is_refused():
    with pytest.raises(ValidationError, match="system_prompt"):
        make(system_prompt=" \n")
