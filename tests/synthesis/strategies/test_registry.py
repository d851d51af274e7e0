"""Strategies are found by their modules; no other file lists them."""

from __future__ import annotations

import pytest

from tessy.config.base import RoleConfig
from tessy.config.synthesis import SynthesisOptions, TeacherConfig
from tessy.core.errors import ConfigError
from tessy.synthesis import strategies
from tessy.synthesis.data_config import data_config
from tessy.synthesis.strategies.registry import (
    all_strategies,
    answering_model,
    generating_models,
    selectable,
    strategy_of,
    unread_options,
)

ADDED = """
from tessy.synthesis.strategies.base import Strategy, generated_by, think_then_answer

STRATEGY = Strategy(
    name="echo",
    make=think_then_answer("teacher"),
    models=generated_by("teacher"),
    thinking_by="teacher",
    answer_by="teacher",
    how="The teacher repeats the problem.",
)
"""


def options(**changed: object) -> SynthesisOptions:
    given: dict[str, object] = {
        "problems": "problems.jsonl",
        "student": RoleConfig(model="s"),
        "teacher": TeacherConfig(model="t"),
    }
    return SynthesisOptions.model_validate(given | changed)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Add a module with another strategy."""
    (tmp_path / "echo.py").write_text(ADDED)
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    all_strategies.cache_clear()
    yield
    all_strategies.cache_clear()


def test_the_strategies_of_the_paper_are_registered():
    assert selectable() == (
        "tessy",
        "restyle",
        "student-only",
        "teacher-answer",
        "teacher-only",
        "teacher-reference",
        "teacher-score",
        "teacher-think",
    )
    assert set(all_strategies()) - set(selectable()) == {"evaluate", "sample"}


def test_help_lists_every_strategy():
    described = SynthesisOptions.model_fields["strategy"].description
    assert described is not None
    assert all(f"`{name}`" in described for name in selectable())


@pytest.mark.parametrize("name", ["tesy", "sample", "Tessy"])
def test_an_unknown_strategy_is_refused_with_the_known_ones(name):
    for others in ({}, {"answer_by": "student"}):
        with pytest.raises(ConfigError, match=f"strategy: expected one of tessy, .*; got '{name}'"):
            strategy_of(options(strategy=name, **others))


@pytest.mark.usefixtures("added")
def test_a_strategy_is_added_by_one_module():
    chosen = options(strategy="echo")
    assert generating_models(chosen) == ("teacher",)
    assert answering_model(chosen) == "teacher"
    found = data_config(chosen)
    assert found["strategy"] == "echo"
    assert not found.keys() & {"cut", "lexicon", "student.window", "candidates"}


@pytest.mark.parametrize(
    ("name", "changed", "unread"),
    [
        (
            "tessy",
            {"score_by": "answer", "candidates": 4},
            {"--candidates": "restyle and teacher-score", "--score-by": "teacher-score"},
        ),
        ("restyle", {"score_by": "answer", "unfit": "fail"}, {"--score-by": "teacher-score"}),
        ("teacher-score", {"score_by": "answer", "unfit": "fail"}, {"--unfit": "restyle"}),
        ("student-only", {"allow_classifier": True}, {"--allow-classifier": "restyle"}),
        (
            "teacher-only",
            {"cut": "extend", "lexicon": "more.txt"},
            {"--cut": "tessy and restyle", "--lexicon": "tessy and restyle"},
        ),
        ("restyle", {"cut": "extend", "lexicon": "more.txt"}, {}),
        ("tessy", {"answer_by": "teacher", "cut": "extend"}, {}),
        ("teacher-only", {"student": RoleConfig(model="s", predictor="lexicon")}, {}),
        ("student-only", {"teacher": TeacherConfig(model="t", url="http://127.0.0.1:1/v1")}, {}),
    ],
)
def test_options_that_a_strategy_does_not_read_are_named(name, changed, unread):
    given = {"traces": "run", "problems": ()} if name == "restyle" else {}
    assert unread_options(options(strategy=name, **given, **changed)) == [
        f"strategy {name} does not read {option}, which is an option of {readers}"
        for option, readers in unread.items()
    ]
