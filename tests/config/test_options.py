from __future__ import annotations

from pathlib import Path

import pytest

from tessy.config.data import CompareConfig
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


def test_names_of_fields_may_be_quoted():
    config = read(*GIVEN, "--fields", 'prompt="Question, en", reference=reward.answer,input=')
    assert config.fields == {"prompt": "Question, en", "reference": "reward.answer", "input": ""}
    for text in (read(*GIVEN[2:], "--problems", "a.jsonl", "b.jsonl").problems,):
        assert text == (Path("a.jsonl"), Path("b.jsonl"))


def test_required_options_can_be_set_in_the_toml_only(toml):
    config = read(toml)
    assert config.problems == (Path("q.jsonl"),)
    assert config.student.url == ("http://a", "http://b")
    assert config.fields == {"prompt": "question"}
    assert config.skip_bad_rows
    assert config.no_ids


def test_the_command_line_overrides_the_toml_even_with_default_values(toml):
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


def test_a_flag_can_be_set_in_both_places(toml):
    assert read(toml, "--skip-bad-rows", "--no-ids").no_ids


def test_config_can_be_separated_from_its_value_by_a_space(toml):
    assert read("--config", toml.partition("=")[2]).limit == 5


def test_config_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="--config"):
        read(*GIVEN, "--config")


def test_help_shows_the_docstring_and_the_default_of_every_option(toml, capsys):
    with pytest.raises(SystemExit) as ended:
        read("--help", toml)
    assert ended.value.code == 0
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, field in SynthesizeConfig.model_fields.items():
        if name not in ("student", "teacher", "fields"):  # tables; a sentence with a long word
            option = f"--{name.replace('_', '-')}"
            assert option in output
            docstring = " ".join(str(field.description).split()).removesuffix(".")
            sentence, _, meaning_of_none = docstring.partition("; None: ")
            assert f"{sentence}." in output, name
            if meaning_of_none and name != "limit":
                assert f"(default: {meaning_of_none})" in output, name
    assert "{None}" not in output
    assert "None:" not in output
    assert "--concurrency INT Maximum concurrent samples." in output
    assert "--student.sampling.min-p" in output
    assert "--teacher.no-trust-remote-code" in output
    assert "(default: 5)" in output  # the TOML's limit, not the built-in None


def test_help_shows_positional_arguments_as_required(capsys):
    with pytest.raises(SystemExit):
        parse(CompareConfig, ["--help"], prog="tessy compare", positional=["runs"])
    output = capsys.readouterr().out
    assert "usage: tessy compare [-h] RUNS [RUNS ...]" in output
    assert "at least one. (required)" in output


def test_a_missing_required_option_is_reported_by_name(capsys):
    with pytest.raises(SystemExit) as ended:
        read("--problems", "q")
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_a_misspelt_option_is_reported_with_a_similar_one(capsys):
    with pytest.raises(SystemExit) as ended:
        read(*GIVEN, "--studnet.url", "x")
    assert ended.value.code == 2
    assert "--student.url" in capsys.readouterr().err


def test_a_map_without_values_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        read(*GIVEN, "--fields", "prompt")
    assert ended.value.code == 2
    assert "KEY=NAME" in capsys.readouterr().err


def test_an_error_names_the_option_of_a_value_out_of_range():
    with pytest.raises(ConfigError, match=r"^--limit: .* got 0$"):
        read(*GIVEN, "--limit", "0")


def test_an_error_names_file_and_line_of_a_toml_value(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("count = 0\n", "utf-8")
    with pytest.raises(ConfigError, match=r"bad\.toml:1: count: "):
        parse(DemoConfig, ["--config", str(path)], prog="tessy demo")


def test_a_required_option_can_be_positional():
    config = parse(ViewConfig, ["runs/x"], prog="tessy view", positional=["run"])
    assert config == ViewConfig(run=Path("runs/x"))


@pytest.mark.parametrize(
    "twice",
    [
        ("--problems", "other.jsonl"),
        ("--out=other",),
        ("--traces=a", "--traces", "b"),
        ("--skip-bad-rows", "--fields", "a=b", "--lexicon=a", "--lexicon=b"),
        ("--config=a.toml", "--config=b.toml"),
        ("--student.url", "http://a", "--student.url", "http://b"),
        ("--fields", "prompt=question", "--fields=id=uid"),
    ],
)
def test_a_path_list_or_map_that_is_given_twice_is_refused(twice):
    with pytest.raises(ConfigError, match=r"^--[a-z.]+: is given twice, and only the last would"):
        read(*GIVEN, *twice)


@pytest.mark.parametrize(
    ("name", "advice"), [("problems", "spaces between"), ("fields", "commas between")]
)
def test_an_error_states_how_several_values_are_given(name, advice):
    with pytest.raises(ConfigError, match=f"after one name, with {advice}"):
        read(*GIVEN, f"--{name}", "a=b", f"--{name}", "c=d")


def test_other_options_can_be_repeated():
    assert read(*GIVEN, "--limit=5", "--limit", "6").limit == 6
    assert read(*GIVEN, "--student.url", "http://a", "--teacher.url", "http://a").limit is None
