"""A run never mixes the problems of two inputs under the same ids."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tessy.core.records import Message, Problem, problem_digest
from tessy.lab.bundled import demo_problems
from tessy.storage.run_reader import read_run
from tessy.synthesis.resume import SampleState
from tessy.synthesis.token_counts import UsageMeter
from tests.lab.test_demo import finish, interrupt, synthesize, write_questions

ROWS = ("trajectories.jsonl", "failures.jsonl")


def rows(count: int) -> list[Any]:
    return [{"id": p.id, "prompt": p.messages[0].content} for p in demo_problems(count, 3)]


@pytest.mark.parametrize("failing", [False, True])
def test_a_changed_problem_of_a_finished_or_failed_sample_is_refused(tmp_path: Path, failing: bool):
    problems, run = write_questions(tmp_path / "q.jsonl", rows(3)), tmp_path / "run"
    command = synthesize(problems, run, *(["--thinking-tokens", "1"] if failing else []))
    finish(command, code=1 if failing else 0)
    changed = rows(3)
    changed[1]["prompt"] += " Hurry!"
    write_questions(problems, changed)
    before = tuple((run / name).read_bytes() for name in ROWS)
    for more in ([], ["--samples-per-problem", "2"]):
        output = finish([*command, *more], code=2)
        assert f"other problems under the ids {changed[1]['id']!r} ({problems}:2);" in output
    assert before == tuple((run / name).read_bytes() for name in ROWS)
    write_questions(problems, [{**row, "prompt": f" {row['prompt']}\n"} for row in rows(4)])
    finish(command, code=1 if failing else 0)  # white space around a problem, and new problems


def test_a_system_prompt_is_no_change(tmp_path: Path):
    problems, run = write_questions(tmp_path / "q.jsonl", rows(2)), tmp_path / "run"
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
    problems, run = write_questions(tmp_path / "q.jsonl", rows(8)), tmp_path / "run"
    command = synthesize(problems, run, "--concurrency", "2")
    interrupt(command, run, 1, signal.SIGKILL)
    done = {
        json.loads(line)["id"] for line in (run / "trajectories.jsonl").read_text().splitlines()
    }
    changed = [row if row["id"] in done else {**row, "prompt": "What is 1 + 1?"} for row in rows(8)]
    write_questions(problems, changed)
    finish(command)
    texts = {row["id"]: row["prompt"] for row in changed}
    for row in read_run(run).trajectories:
        assert row.messages[0].content == texts[row.id]
    assert "the sample in flight starts over" in (run / "run.log").read_text()
