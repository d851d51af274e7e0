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
def test_every_field_has_a_sentence_for_the_help(cls):
    for name, field in cls.model_fields.items():
        assert field.description, f"{cls.__name__}.{name}"
        assert field.description.endswith("."), f"{cls.__name__}.{name}"


def test_configurations_are_frozen_and_closed():
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
def test_urls_may_be_a_list_or_split_by_commas(written, urls):
    assert RoleConfig.model_validate({"model": "m", "url": written}).url == urls


def test_thinking_and_answer_fit_the_methods_budget():
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
def test_options_that_leave_the_data_alone_are_not_in_the_fingerprint(same):
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
def test_options_that_change_the_data_change_exactly_their_key(changed, key):
    before, after = data_config(make()), data_config(make(**changed))
    assert {name for name in before | after if before[name] != after[name]} == {key}


def test_new_fields_are_data_until_somebody_says_otherwise():
    class Grown(SynthesisOptions):
        new: int = 1

    assert data_config(Grown.model_validate(REQUIRED))["new"] == 1


def test_the_lexicon_counts_by_its_content_not_by_its_name(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("so then")
    two.write_text("so then")
    assert data_config(make(lexicon=one)) == data_config(make(lexicon=two))
    two.write_text("well now")
    assert data_config(make(lexicon=one)) != data_config(make(lexicon=two))


def test_a_missing_lexicon_is_the_users_error(tmp_path):
    with pytest.raises(ConfigError, match=r"lexicon: cannot read .*nowhere\.txt"):
        data_config(make(lexicon=tmp_path / "nowhere.txt"))


BASELINES = [name for name in selectable() if name != "tessy"]


def test_the_method_itself_goes_without_saying_so_that_older_runs_go_on():
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
def test_what_makes_other_rows_is_data(changed, key):
    assert data_config(make(**changed))[key] == changed[key]


@pytest.mark.parametrize("strategy", BASELINES)
def test_what_a_strategy_does_not_read_does_not_bind_a_run_of_it(strategy):
    with_turns = {
        "cut": "extend",
        "lexicon": "nowhere.txt",
        "student": {"model": "s", "predictor": "p", "window": "sliding-200", "draft_tokens": 5},
        "teacher": {"model": "t", "predictor": "p", "window": "sliding-200", "draft_tokens": 5},
    }
    assert data_config(make(strategy=strategy)) == data_config(
        make(strategy=strategy, **with_turns)
    )
    scored = {"candidates": 9, "score_by": "answer"}
    before = data_config(make(strategy=strategy))
    assert (before == data_config(make(strategy=strategy, **scored))) == (
        strategy != "teacher-score"
    )


def test_a_model_that_writes_nothing_does_not_bind_a_run():
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
def test_who_answers_is_open_in_the_method_only(strategy):
    assert answering_model(make(answer_by="teacher")) == "teacher"
    with pytest.raises(ConfigError, match=f"answer_by: in strategy {strategy} .*leave this option"):
        answering_model(make(strategy=strategy, answer_by="teacher"))


def test_a_blank_system_prompt_is_none():
    with pytest.raises(ValidationError, match="system_prompt"):
        make(system_prompt=" \n")
