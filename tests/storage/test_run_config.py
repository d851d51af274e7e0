"""Options that were added or renamed since a run was created."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tessy.boundary.annotation.directory import ANNOTATIONS
from tessy.config.base import RoleConfig
from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesizeConfig, TeacherConfig
from tessy.core.errors import RunError
from tessy.storage.run_config import RowKind, read
from tessy.storage.run_reader import TRAJECTORIES, read_config
from tessy.synthesis.data_config import data_config, data_names
from tests.lab.test_demo import finish
from tests.support.annotate_command import config, fill_responses, write_rules
from tests.support.annotate_command import run as run_annotate
from tests.support.old_run import change_config, copy_to, synthesize

KINDS = pytest.mark.parametrize("kind", [TRAJECTORIES, ANNOTATIONS], ids=lambda kind: kind.name)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the old run."""
    copy_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("run")


@pytest.fixture
def history():
    """Set the options that were added or renamed since the runs of this test."""

    before = [(kind, kind.added, kind.renamed) for kind in (TRAJECTORIES, ANNOTATIONS)]

    def change(kind: RowKind[Any, Any, Any] = TRAJECTORIES, **changes: Any) -> None:
        for name, value in changes.items():
            object.__setattr__(kind, name, value)

    yield change
    for kind, added, renamed in before:
        change(kind, added=added, renamed=renamed)


def test_a_missing_key_means_the_behaviour_before_the_option_existed(run, history):
    change_config(run, cut=None, teacher__window=None)
    unread = {"candidates": 5}  # by this strategy
    history(added={"cut": "discard", "teacher.window": "anchored", **unread})
    synthesize()
    assert "cut" not in read_config(run)["data_config"]


def test_a_value_other_than_the_former_behaviour_is_refused(run, history):
    change_config(run, cut=None, teacher__window=None)
    history(added={"cut": "discard", "teacher.window": "anchored"})
    output = synthesize("--cut", "extend", code=2)
    assert 'cut: "discard", now "extend"' in output
    assert "teacher.window" not in output


def test_a_changed_default_does_not_affect_old_runs(run, history):
    change_config(run, cut=None)
    history(added={"cut": "extend"})
    assert 'cut: "extend", now "discard"' in synthesize(code=2)
    synthesize("--cut", "extend")


def test_a_missing_key_without_history_is_refused(run):
    change_config(run, cut=None)
    assert 'cut: (not set), now "discard"' in synthesize(code=2)


def test_the_former_behaviour_does_not_replace_a_present_value(run, history):
    history(added={"cut": "extend"})
    synthesize()


def test_a_key_of_a_newer_version_is_refused_naming_it(run):
    change_config(run, student__mood="calm", zeal=3)
    output = synthesize(code=2)
    assert "was created by a newer tessy" in output
    assert "student.mood, zeal" in output
    assert "(not set)" not in output
    finish(["tessy", "view", str(run)])  # reading works


def test_a_key_of_another_strategy_is_known(run):
    change_config(run, system_prompt="Be brief.")
    output = synthesize(code=2)
    assert "newer" not in output
    assert 'system_prompt: "Be brief.", now (not set)' in output


def test_renamed_keys_are_read_under_their_present_names(run, history):
    path = run / "config.json"
    document = json.loads(path.read_bytes())
    data, options = document["data_config"], document["config"]
    data["cutting"], options["cutting"] = data.pop("cut"), options.pop("cut")
    data["learner.view"] = data.pop("student.window")
    options["learner"] = {"view": options["student"].pop("window")}
    document["resumed"] = [{"at": "", "config": {"cutting": "extend"}, "software": {}}]
    path.write_text(json.dumps(document), "utf-8")
    assert "newer" in synthesize(code=2)
    history(renamed={"cutting": "cut", "learner.view": "student.window"})
    found = read(path, TRAJECTORIES)
    assert found["data_config"]["cut"] == found["config"]["cut"] == "discard"
    assert found["data_config"]["student.window"] == "anchored"
    assert found["config"]["student"]["window"] == "anchored"
    assert found["resumed"][0]["config"] == {"cut": "extend"}
    assert not {"cutting", "learner.view"} & found["data_config"].keys()
    assert 'cut: "discard", now "extend"' in synthesize("--cut", "extend", code=2)
    synthesize()


@KINDS
def test_a_former_name_is_not_a_present_option(kind):
    assert not kind.renamed.keys() & set(kind.renamed.values())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"answer_by": "teacher", "system_prompt": "Be brief."},
        {"strategy": "teacher-score"},
        {"strategy": "teacher-only"},
        {"strategy": "restyle", "problems": (), "traces": "t"},
    ],
)
def test_every_name_in_data_config_is_known(options):
    roles = {"student": RoleConfig(model="s"), "teacher": TeacherConfig(model="t")}
    given = SynthesizeConfig(**{"problems": "p", "out": "o", **roles, **options})
    assert data_config(given).keys() <= data_names(SynthesizeConfig)
    assert not {"url", "student.url", "concurrency"} & data_names(SynthesizeConfig)


def test_every_name_in_the_data_config_of_sample_is_known():
    given = SampleConfig(problems="p", out="o", model="m", author="student")
    assert data_config(given).keys() == data_names(SampleConfig)


def test_annotations_of_a_newer_version_are_refused(tmp_path, history):
    responses = fill_responses(tmp_path / "responses")
    options = config(responses, rule=f"{write_rules(tmp_path / 'rules.py')}:style")
    assert run_annotate(options)[0] == 0
    assert run_annotate(options)[0] == 0
    change_config(responses.parent / "out", segment_words=None)
    history(ANNOTATIONS, added={"segment_words": 30})
    assert run_annotate(options)[0] == 0
    change_config(responses.parent / "out", zeal=3)
    with pytest.raises(RunError, match=r"newer tessy: .* zeal of"):
        run_annotate(options)
