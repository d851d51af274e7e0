from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessy.config.synthesis import DemoConfig, SynthesizeConfig
from tessy.config.toml import TomlFile, load_config, partial_config
from tessy.core.errors import ConfigError
from tests.support.paths import EXAMPLES as EXAMPLES_FOLDER

EXAMPLES = sorted(EXAMPLES_FOLDER.glob("*.toml"))
MINIMAL = """\
problems = "q.jsonl"
out = "runs/x"
[student]
model = "s"
[teacher]
model = "t"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, "utf-8")
    return path


def message(path: Path | None, overrides: dict[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(SynthesizeConfig, path, overrides)
    return str(caught.value)


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads(path):
    config = load_config(SynthesizeConfig, path, {"problems": "given.jsonl"})
    assert config.student.model != config.teacher.model


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_commented_keys_of_an_example_exist(path, tmp_path):
    text = re.sub(r"^# (?=\w+ = )", "", path.read_text("utf-8"), flags=re.MULTILINE)
    partial_config(SynthesizeConfig, written(tmp_path, text), missing=None)


def test_overrides_replace_values_of_the_file_and_those_the_defaults(tmp_path):
    path = written(tmp_path, MINIMAL + "sampling = { top_k = 5, top_p = 0.5 }\n")
    config = load_config(SynthesizeConfig, path, {"seed": 3, "teacher": {"sampling": {"top_k": 9}}})
    assert config.seed == 3
    assert config.teacher.model == "t"  # a table is merged, not replaced
    assert (config.teacher.sampling.top_k, config.teacher.sampling.top_p) == (9, 0.5)
    assert config.student.sampling.top_k == 20


def test_the_field_map_is_replaced_and_not_merged(tmp_path):
    path = written(tmp_path, 'fields = { prompt = "question" }\n' + MINIMAL)
    config = load_config(SynthesizeConfig, path, {"fields": {"id": "uid"}})
    assert config.fields == {"id": "uid"}


def test_without_file_and_overrides_all_values_are_defaults():
    assert load_config(DemoConfig) == DemoConfig()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tinking_tokens = 5\n", ":1: tinking_tokens: .*did you mean thinking_tokens"),
        ("\n# seed = 1\nlimit = 0\n", ":3: limit: should be greater than or equal to 1, got 0"),
        ('limit = "3"\n', ":1: limit: should be a valid integer, got '3'"),
        ("fresh = 1\n", ":1: fresh: should be a valid boolean, got 1"),
        ('cut = "keep"\n', ":1: cut: should be 'discard' or 'extend', got 'keep'"),
        ("temperature = 1\n", ":1: .*did you mean student.sampling.temperature"),
        ("teacher.temprature = 1\n", ":1: .*did you mean teacher.sampling.temperature"),
        ("teacher.sampling.thinking_token = 1\n", ":1: .*did you mean thinking_tokens"),
        ('student.model = ""\n', ":1: student.model: should not be empty, got ''"),
        ("zzzz = 1\n", ":1: zzzz: there is no such option; known here: problems, "),
        ("student.sampling.top_k = 1.5\n", ":1: student.sampling.top_k: .*integer, got 1.5"),
        ('teacher = "t"\n', ":1: teacher: should be an object, got 't'"),
        ("seed = \n", "is not valid TOML: .*line 1"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path, text, expected):
    path = written(tmp_path, text)
    assert re.search(re.escape(str(path)) + f".*{expected}", message(path))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[student.sampling]\ntop_p = 0.5\ntop_k = -1\n", 3),
        ("[student]\n\nsampling = { top_p = 0.5, top_k = -1 }\n", 3),
        ("[student]\n\nsampling.top_k = -1\n", 3),
        ('[ "student" . sampling ] # how it draws\n"top_k" = -1\n', 2),
    ],
)
def test_the_line_is_found_for_every_toml_notation_of_a_table(tmp_path, text, line):
    path = written(tmp_path, text)
    assert f"{path}:{line}: student.sampling.top_k: " in message(path)


def test_the_error_of_a_missing_key_names_the_line_of_its_table(tmp_path):
    path = written(tmp_path, 'problems = "q"\nout = "o"\n[student]\nurl = "u"\n')
    (line,) = message(path).splitlines()
    assert line.startswith(f"{path}:3: student.model: is required and missing; add this key, or")


def test_the_error_of_a_missing_option_names_it():
    with pytest.raises(ConfigError) as caught:
        load_config(SynthesizeConfig)
    assert str(caught.value).splitlines()[0] == (
        "--student.model: is required and missing; give it, or a TOML file (--config) with it"
    )


def test_the_error_of_an_invalid_override_names_the_option(tmp_path):
    path = written(tmp_path, MINIMAL)
    assert message(path, {"teacher": {"sampling": {"top_k": -1}}}) == (
        "--teacher.sampling.top-k: should be greater than or equal to 0, got -1"
    )


def test_all_errors_are_reported_together(tmp_path):
    path = written(tmp_path, "limit = 0\nseed = -1\nunknown_thing = 1\n" + MINIMAL)
    assert len(message(path).splitlines()) == 3


def test_the_error_of_an_unknown_key_does_not_show_its_value(tmp_path):
    path = written(tmp_path, MINIMAL + 'api_key = "sk-secret"\n')
    text = message(path)
    assert f"{path}:7: teacher.api_key: there is no such option" in text
    assert "did you mean teacher.api_key_env" in text
    assert "sk-secret" not in text


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path):
    assert "cannot read" in message(tmp_path / "nowhere.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'out = "\xe9"')
    assert "is not UTF-8" in message(latin)


def test_a_partial_configuration_marks_missing_values(tmp_path):
    nothing: Any = object()
    path = written(tmp_path, 'out = "o"\nteacher.url = "http://a,http://b"\n')
    partial = partial_config(SynthesizeConfig, path, nothing)
    assert partial.student.model is nothing
    assert partial.out == Path("o")
    assert partial.teacher.url == ("http://a", "http://b")
    assert (
        partial.teacher.sampling
        == SynthesizeConfig.model_validate(
            {"problems": "q", "out": "o", "student": {"model": "s"}, "teacher": {"model": "t"}}
        ).teacher.sampling
    )


def test_a_partial_configuration_refuses_invalid_values(tmp_path):
    with pytest.raises(ConfigError, match=":1: seed: "):
        partial_config(SynthesizeConfig, written(tmp_path, 'seed = "x"\n'), None)


@given(
    before=st.lists(st.sampled_from(["", "# seed = 9", "limit = 3", "# [student]"]), unique=True),
    table=st.booleans(),
)
def test_a_key_is_found_on_its_line(before, table):
    lines = [*before, *(["[student]"] if table else []), "model = 'm'"]
    location = ("student", "model") if table else ("model",)
    toml = TomlFile(Path("f.toml"), "\n".join(lines), {})
    assert toml.where(location) == f"f.toml:{len(lines)}"
