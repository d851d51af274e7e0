"""A run never mixes problems or dates of two inputs, and models see every text of a problem."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tessy.core.errors import RunError
from tessy.core.records import Message, Problem, problem_digest
from tessy.lab.bundled import demo_problems, model_path
from tessy.storage.journal import Journal
from tessy.storage.run_config import prompt_date
from tessy.synthesis.resume import SampleState
from tessy.synthesis.token_counts import UsageMeter
from tests.lab.test_demo import finish, synthesize, write_problems
from tests.support.run_data import read_run

ROWS = ("trajectories.jsonl", "failures.jsonl")


def rows(count: int) -> list[Any]:
    return [{"id": p.id, "prompt": p.messages[0].content} for p in demo_problems(count, 3)]


@pytest.mark.parametrize("failing", [False, True])
def test_a_changed_problem_of_a_finished_or_failed_sample_is_refused(tmp_path: Path, failing: bool):
    problems, run = write_problems(tmp_path / "q.jsonl", rows(3)), tmp_path / "run"
    command = synthesize(problems, run, *(["--thinking-tokens", "1"] if failing else []))
    finish(command, code=1 if failing else 0)
    changed = rows(3)
    changed[1]["prompt"] += " Hurry!"
    write_problems(problems, changed)
    before = tuple((run / name).read_bytes() for name in ROWS)
    for more in ([], ["--samples-per-problem", "2"]):
        output = finish([*command, *more], code=2)
        assert f"other problems under the ids {changed[1]['id']!r} ({problems}:2);" in output
    assert before == tuple((run / name).read_bytes() for name in ROWS)
    write_problems(problems, [{**row, "prompt": f" {row['prompt']}\n"} for row in rows(4)])
    finish(command, code=1 if failing else 0)  # white space around a problem, and new problems


def test_a_system_prompt_is_no_change(tmp_path: Path):
    problems, run = write_problems(tmp_path / "q.jsonl", rows(2)), tmp_path / "run"
    command = synthesize(problems, run, "--system-prompt", "Be brief.")
    finish(command)
    finish([*command, "--samples-per-problem", "2"])
    assert len(read_run(run).trajectories) == 4


def test_a_state_knows_whether_its_problem_has_changed():
    problem = Problem(id="a", messages=(Message(role="user", content="7 + 2"),))
    other = Problem(id="a", messages=(Message(role="user", content="70 + 20"),))
    state = SampleState(1, UsageMeter(), problem=problem_digest(problem.messages))
    assert not state.is_of_another(problem)
    assert state.is_of_another(other)
    assert not SampleState(1, UsageMeter()).is_of_another(other)  # of an older version


def test_a_sample_in_flight_of_a_changed_problem_starts_over(tmp_path: Path):
    problems, run = write_problems(tmp_path / "q.jsonl", rows(1)), tmp_path / "run"
    command = synthesize(problems, run)
    finish(command)
    write_problems(problems, rows(2))
    with Journal(run / "journal.sqlite") as journal:
        state = SampleState(1, UsageMeter(), problem="0" * 16)
        journal.set_state((rows(2)[1]["id"], 0), state.dump(0))
    finish(command)
    assert "the problem has changed; the sample in flight starts over" in (
        (run / "run.log").read_text()
    )
    assert len(read_run(run).trajectories) == 2


def test_the_date_of_prompts_is_fixed_when_a_run_begins(tmp_path: Path):
    problems, run = write_problems(tmp_path / "q.jsonl", rows(1)), tmp_path / "run"
    command = synthesize(problems, run)
    finish([*command, "--date", "2026-01-02"])
    config = json.loads((run / "config.json").read_text())
    assert config["data_config"]["date"] == "2026-01-02"
    finish([*command, "--samples-per-problem", "2"])  # a later session has the date of the run
    output = finish([*command, "--date", "2026-01-03"], code=2)
    assert 'date: "2026-01-02", now "2026-01-03"' in output


def test_a_run_without_a_date_has_the_day_of_its_creation():
    document = {"data_config": {}, "created": "2026-01-02T03:04:05+00:00"}
    assert prompt_date(document) == datetime.date(2026, 1, 2)
    assert prompt_date({"data_config": {"date": "2026-02-01"}}) == datetime.date(2026, 2, 1)
    assert prompt_date({**document, "data_config": {"derived": {}}}) is None
    with pytest.raises(RunError, match=r"`created`, got 'soon'"):
        prompt_date({"data_config": {}, "created": "soon"})


def test_a_text_that_a_model_would_not_see_makes_a_bad_row(tmp_path: Path):
    model = tmp_path / "teacher"
    shutil.copytree(model_path("teacher"), model)
    template = model / "chat_template.jinja"
    template.write_text(
        "{%- set messages = messages | rejectattr('role', 'equalto', 'system') | list %}"
        + template.read_text()
    )
    system = {"role": "system", "content": "Work modulo 3."}
    user = {"role": "user", "content": "What is 7 + 2?"}
    problems = write_problems(tmp_path / "q.jsonl", [*rows(1), {"messages": [system, user]}])
    command = synthesize(problems, tmp_path / "run", "--teacher.model", str(model))
    output = " ".join(finish(command, code=2).split())
    assert f"{problems}:2: messages: the chat template of" in output
    assert "turn 1 (system: 'Work modulo 3.')" in output
    assert not (tmp_path / "run" / "trajectories.jsonl").read_bytes()
