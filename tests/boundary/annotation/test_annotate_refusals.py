"""Input that `tessy annotate` refuses before the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tessy.core.errors import ConfigError, InputError
from tessy.core.records import Span
from tests.support.annotate_command import config, fill_responses, run, write_rules
from tests.support.rows import failure, fill, row


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    return fill_responses(tmp_path / "responses")


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    return write_rules(tmp_path / "rules.py")


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "model: no annotator; give"),
        ({"model": "m"}, "url: no annotator; give"),
        ({"url": ("http://a",)}, "model: no annotator; give"),
        ({"rule": "a:b", "model": "m"}, "rule: it replaces a model"),
        ({"model": "m", "url": ("ftp://a",)}, "not a server URL"),
        ({"model": "m", "url": ("http://a", "http://a")}, "given twice"),
        ({"model": "m", "url": ("http://a",), "api_key_env": "NOT_SET_HERE"}, "--api-key-env: "),
        ({"model": "m", "url": ("http://a",), "api_key_env": "BROKEN_KEY"}, "cannot be sent"),
        ({"rule": "no.such.module:f"}, r"rule 'no\.such\.module:f': importing"),
        ({"rule": "style"}, "write module:callable"),
    ],
)
def test_inconsistent_options_are_refused(responses, monkeypatch, options, message):
    monkeypatch.setenv("BROKEN_KEY", "sek\nret")
    with pytest.raises(ConfigError, match=message):
        run(config(responses, **options))
    assert not (responses.parent / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "has no 'missing'"),
        ("not_strings", r"returned \[3\]; return a list of strings"),
        ("two", "cannot be called as"),
        ("fails", "raised IndexError|returned 'Okay"),
    ],
)
def test_a_rule_is_tested_before_the_run(responses, rule, name, message):
    with pytest.raises(ConfigError, match=message):
        run(config(responses, rule=f"{rule}:{name}"))
    assert not (responses.parent / "out").exists()


def refused(tmp_path: Path, rule: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(config(tmp_path / "bad", rule=f"{rule}:style"))
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_annotated_are_refused(tmp_path, rule):
    mixed = row("m", 2, thinking="Okay, 3")
    spans = (Span(start=0, end=5, author="student"), Span(start=5, end=7, author="teacher"))
    mixed = mixed.model_copy(update={"spans": spans})
    fill(tmp_path / "bad", row("fine"), mixed, row("blank", thinking=" \n"))
    refused(
        tmp_path, rule, r"trajectories\.jsonl: m/2: its thinking is by both student and teacher"
    )
    refused(tmp_path, rule, r"2 response\(s\) cannot(.|\n)*blank/0: it has no thinking")


def test_a_response_without_any_thinking_is_refused(tmp_path, rule):
    empty = row("empty").model_copy(update={"thinking": "", "spans": ()})
    fill(tmp_path / "bad", empty)
    refused(tmp_path, rule, "empty/0: it has no thinking")


def test_responses_of_two_authors_are_refused(tmp_path, rule):
    teachers = row("t", thinking="Okay, 3")
    spans = (Span(start=0, end=7, author="teacher"),)
    fill(tmp_path / "bad", row("s"), teachers.model_copy(update={"spans": spans}))
    refused(tmp_path, rule, "t/0: its thinking is by the teacher, that of earlier rows by the stud")


def test_a_run_without_responses_is_refused(tmp_path, rule):
    refused(tmp_path, rule, "there is no folder")
    fill(tmp_path / "bad", failure())
    refused(tmp_path, rule, "has no finished response")
