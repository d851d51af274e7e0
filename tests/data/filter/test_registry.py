"""Discovery of filter rules by module."""

from __future__ import annotations

import json

import pytest

from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError
from tessy.data.filter import rules
from tessy.data.filter.command import all_rules, chosen_rules, filter_run
from tests.support.rows import fill, row

ADDED = """
from tessy.data.filter.rule import text_rule

RULE = text_rule("odd", 15, "the sample has an odd index", lambda row: "odd" * (row.sample % 2))
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Add a module with another rule."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "odd.py").write_text(ADDED)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path / "rules")])
    all_rules.cache_clear()
    yield
    all_rules.cache_clear()


def test_rules_are_ordered_by_position():
    assert tuple(all_rules()) == (
        "truncated",
        "looping",
        "empty_answer",
        "no_code",
        "chat_markers",
        "language",
        "near_duplicate",
        "in_evaluation",
        "wrong_answer",
    )


@pytest.mark.usefixtures("added")
def test_a_rule_needs_only_a_module(tmp_path):
    fill(tmp_path / "run", *(row(sample=sample) for sample in range(4)))
    config = FilterConfig(run=tmp_path / "run", out=tmp_path / "out", skip=("near_duplicate",))
    assert list(all_rules())[1] == "odd"
    assert filter_run(config) == 0
    quarantine = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in quarantine]
    assert [entry["row"]["sample"] for entry in found] == [1, 3]
    assert {reason["rule"] for entry in found for reason in entry["reasons"]} == {"odd"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip": "loopin"}, "unknown rule 'loopin'; expected some of truncated, looping"),
        ({"skip": "no_code", "require_code": True}, "--require-code"),
        ({"fields": {"prompt": "q"}}, "--fields"),
        ({"skip": ",".join(all_rules())}, "all rules are skipped"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        chosen_rules(FilterConfig.model_validate({"run": "r", "out": "o", **options}))
