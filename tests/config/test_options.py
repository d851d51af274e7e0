from __future__ import annotations

from pathlib import Path

import pytest

from tessy.config.options import parse
from tessy.config.synthesis import DemoConfig, SynthesizeConfig, ViewConfig
from tessy.core.errors import ConfigError

GIVEN = ("--problems", "q.jsonl", "--out", "o", "--student.model", "s", "--teacher.model", "t")
COMPLETE = """\
problems = "q.jsonl"
out = "o"
skip_bad_rows = true
no_ids = true
limit = 5
fields = { prompt = "question" }
[student]
model = "s"
url = ["http://a", "http://b"]
[teacher]
model = "t"
sampling.temperature = 0.5
"""


def read(*arguments: str) -> SynthesizeConfig:
    return parse(SynthesizeConfig, arguments, prog="tessy synthesize")


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(COMPLETE, "utf-8")
    return f"--config={path}"


def test_options_fill_the_configuration():
    config = read(
        *GIVEN,
        *("--student.url", "http://a,http://b", "--fields", "prompt=question,id=uid"),
        *("--student.draft-tokens", "20", "--limit", "7", "--cut", "extend", "--skip-bad-rows"),
        *("--teacher.sampling.top-p", "0.9", "--lexicon", "more.txt", "--no-ids"),
    )
    assert config == SynthesizeConfig.model_validate(
        {
            "problems": "q.jsonl",
            "out": "o",
            "student": {"model": "s", "url": "http://a,http://b", "draft_tokens": 20},
            "teacher": {"model": "t", "sampling": {"top_p": 0.9}},
            "fields": {"prompt": "question", "id": "uid"},
            "limit": 7,
            "cut": "extend",
            "skip_bad_rows": True,
            "lexicon": "more.txt",
            "no_ids": True,
        }
    )


def test_required_options_may_stand_in_the_toml_alone(toml):
    config = read(toml)
    assert config.problems == Path("q.jsonl")
    assert config.student.url == ("http://a", "http://b")
    assert config.fields == {"prompt": "question"}
    assert config.skip_bad_rows
    assert config.no_ids


def test_the_command_line_wins_also_with_a_value_that_is_the_default(toml):
    config = read(
        toml,
        *("--teacher.sampling.temperature", "0.7", "--limit", "None", "--no-skip-bad-rows"),
        *("--student.url", "http://c", "--fields", "id=uid", "--no-no-ids"),
    )
    assert config.teacher.sampling.temperature == 0.7
    assert config.limit is None
    assert not config.skip_bad_rows
    assert not config.no_ids
    assert config.student.url == ("http://c",)
    assert config.fields == {"id": "uid"}


def test_a_flag_given_again_stays_set(toml):
    assert read(toml, "--skip-bad-rows", "--no-ids").no_ids


def test_config_may_stand_apart_from_its_value(toml):
    assert read("--config", toml.partition("=")[2]).limit == 5


def test_config_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="--config"):
        read(*GIVEN, "--config")


def test_the_help_shows_every_option_with_its_sentence_and_default(toml, capsys):
    with pytest.raises(SystemExit) as ended:
        read("--help", toml)
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, field in SynthesizeConfig.model_fields.items():
        if name not in ("student", "teacher", "fields"):  # tables; a sentence with a long word
            option = f"--{name.replace('_', '-')}"
            assert option in shown
            sentence, _, absent = " ".join(str(field.description).split()).partition("; None: ")
            assert sentence.rstrip(".") in shown, name
            if absent and name != "limit":
                assert f"(default: {absent.rstrip('.')})" in shown, name
    assert "{None}" not in shown
    assert "--concurrency INT Samples in flight." in shown
    assert "--student.sampling.min-p" in shown
    assert "--teacher.no-trust-remote-code" in shown
    assert "(default: 5)" in shown  # the TOML's limit, not the built-in None


def test_a_required_option_that_is_nowhere_ends_with_its_name(capsys):
    with pytest.raises(SystemExit) as ended:
        read(*GIVEN[2:])
    assert ended.value.code == 2
    assert "--problems" in capsys.readouterr().err


def test_a_misspelt_option_ends_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        read(*GIVEN, "--studnet.url", "x")
    assert ended.value.code == 2
    assert "--student.url" in capsys.readouterr().err


def test_a_map_without_names_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        read(*GIVEN, "--fields", "prompt")
    assert ended.value.code == 2
    assert "KEY=NAME" in capsys.readouterr().err


def test_a_value_out_of_range_names_the_option():
    with pytest.raises(ConfigError, match=r"^--limit: .* got 0$"):
        read(*GIVEN, "--limit", "0")


def test_a_wrong_value_in_the_toml_names_file_and_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("count = 0\n", "utf-8")
    with pytest.raises(ConfigError, match=r"bad\.toml:1: count: "):
        parse(DemoConfig, ["--config", str(path)], prog="tessy demo")


def test_a_required_option_can_be_positional():
    config = parse(ViewConfig, ["runs/x"], prog="tessy view", positional=["run"])
    assert config == ViewConfig(run=Path("runs/x"))
