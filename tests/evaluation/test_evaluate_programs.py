"""`tessy evaluate` on a benchmark of programs, with a fake judge."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tessy.core.errors import InputError
from tessy.core.records import Evaluation
from tessy.evaluation.grading import Grader
from tessy.evaluation.load import JudgedProblem
from tessy.evaluation.programs.base import ProgramTest, ProgramTests
from tessy.evaluation.programs.extraction import python_program
from tessy.evaluation.programs.task import ProgramTask
from tessy.runtime.runner import JobResult
from tessy.runtime.stop import Draining
from tessy.storage.journal import Journal
from tessy.storage.run_paths import RunPaths
from tessy.storage.run_reader import EVALUATIONS, read_config
from tessy.synthesis.resume import load_progress
from tests.evaluation.test_command import rows_of, scores, served
from tests.lab.test_demo import finish
from tests.support import rows
from tests.support.benchmarks import sized
from tests.support.evaluated_model import Reply, serve
from tests.support.livecodebench import problem, write
from tests.support.model_server import eventually
from tests.support.paths import ROOT
from tests.support.program_judge import FakeProgramJudge, install

STATUSES = ("wrong_answer", "time_limit", "compile_error", "judge_error", "raise", "accepted")

OUTCOMES = {
    "wrong_answer": ("wrong", "wrong_answer"),
    "time_limit": ("wrong", "time_limit"),
    "compile_error": ("wrong", "compile_error"),
    "judge_error": ("judge_error", "judge_error"),
    "raise": ("judge_error", ""),
    "accepted": ("correct", "accepted"),
    "prose": ("no_answer", ""),
    "unclosed": ("no_answer", ""),
}


def program(status: str) -> str:
    return f"First:\n```python\nprint(1)  # wrong_answer\n```\nBut:\n```python\n# {status}\n```"


async def test_each_verdict_has_its_outcome(tmp_path: Path, monkeypatch):
    judge = FakeProgramJudge()
    opened = install(monkeypatch, judge)
    names = (*STATUSES, "prose", "unclosed")
    sized(monkeypatch, "lcb-v5", len(names))
    file = write(tmp_path / "test5.jsonl", *map(problem, names))
    run = tmp_path / "run"

    def reply(asked: str) -> Reply:
        name = asked.partition("numbers (")[2].partition(")")[0]
        if name == "prose":
            return Reply("There is no solution.")
        if name == "unclosed":
            return Reply("```python\nprint(3)")
        return Reply(program(name), thinking="```python\n# accepted\n```")

    async with serve(reply) as server:
        more = ("--data", str(file), "--judge-workers", "2", "--answer-tokens", "200")
        command = served(server, "lcb-v5", run, *more)
        output = await asyncio.to_thread(finish, command, 1)
        assert "2 without a score: judge error 2" in output
        again = await asyncio.to_thread(finish, command, 1)
        assert "pass@1" in again
    assert opened == [{"workers": 2, "allow_unsafe": False, "python": None}] * 2
    assert judge.closed == 2
    assert judge.most <= 2
    found = {row.id: (row.outcome, row.rule) for row in rows_of(run).values()}
    assert found == OUTCOMES
    row = rows_of(run)["wrong_answer/0"]
    assert (row.final_answer, row.reference) == ("# wrong_answer", "")
    assert (row.judge, row.detail) == ("tests 1 (fake 7)", "test 1")
    assert rows_of(run)["raise/0"].detail == "ZeroDivisionError: of the judge"
    assert scores(run)["pass@1"]["value"] == pytest.approx(1 / 6)
    assert scores(run)["rules"] == {
        "wrong": {"wrong_answer": 1, "time_limit": 1, "compile_error": 1},
        "judge_error": {"judge_error": 1},
        "correct": {"accepted": 1},
    }
    assert read_config(run, EVALUATIONS)["data_config"]["judge"] == "tests 1 (fake 7)"
    # Hidden tests are nowhere in the run, and reach the judge.
    for path in run.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes()
    assert {tests[1].expected for _, tests in judge.judged} == {
        f"42 secret-{name}" for name in STATUSES
    }


async def test_another_version_of_the_judge_does_not_resume(tmp_path: Path, monkeypatch):
    judge = FakeProgramJudge()
    install(monkeypatch, judge)
    sized(monkeypatch, "lcb-v5", 1)
    file = write(tmp_path / "test5.jsonl", problem("a"))
    async with serve(lambda _: Reply(program("accepted"))) as server:
        command = served(
            server, "lcb-v5", tmp_path / "run", "--data", str(file), "--answer-tokens", "200"
        )
        await asyncio.to_thread(finish, command)
        judge.version = "fake 8"
        assert "judge: " in await asyncio.to_thread(finish, command, 2)


async def test_a_judge_that_cannot_be_opened_stops_before_anything_is_generated(
    tmp_path: Path, monkeypatch
):
    install(monkeypatch, InputError("no sandbox here; pass --allow-unsafe-judging"))
    sized(monkeypatch, "lcb-v5", 1)
    file = write(tmp_path / "test5.jsonl", problem("a"))
    async with serve(lambda _: Reply("x")) as server:
        command = served(server, "lcb-v5", tmp_path / "run", "--data", str(file))
        assert "no sandbox here" in await asyncio.to_thread(finish, command, 2)
        assert server.seen == []
    assert not (tmp_path / "run").exists()


async def test_generation_continues_while_all_responses_wait_for_the_judge(
    tmp_path: Path, monkeypatch
):
    """With one sample in flight at a time, every response is generated before any verdict."""
    asked: set[str] = set()

    class Generated(asyncio.Event):
        async def wait(self):
            await eventually(lambda: len(asked) == 6)
            return True

    judge = FakeProgramJudge(gate=Generated())
    install(monkeypatch, judge)
    sized(monkeypatch, "lcb-v5", 6)
    file = write(tmp_path / "test5.jsonl", *(problem(str(n)) for n in range(6)))
    run = tmp_path / "run"

    def reply(text: str) -> Reply:
        asked.add(text)
        return Reply(program("accepted"))

    async with serve(reply) as server:
        command = served(
            server, "lcb-v5", run, "--data", str(file), "--concurrency", "1",
            "--judge-workers", "2", "--answer-tokens", "200",
        )  # fmt: skip
        await asyncio.to_thread(finish, command)
    assert len(rows_of(run)) == 6
    assert judge.most == 2


MAIN = """
import asyncio, sys
from tests.support.model_server import eventually
from tests.support.paths import ROOT
from tests.support.program_judge import FakeProgramJudge, as_module
judge = FakeProgramJudge()
judge.gate = asyncio.Event()  # never set
sys.modules["tessy.evaluation.programs.judge"] = as_module(judge)[0]
from dataclasses import replace
from tessy.cli import main
from tessy.evaluation import files
small = {"lcb-v5": replace(files.all_benchmarks()["lcb-v5"], rows=3)}
files.all_benchmarks = lambda: small
main(sys.argv[1:])
"""


async def test_kill_9_loses_no_response_that_waits_for_the_judge(tmp_path: Path, monkeypatch):
    sized(monkeypatch, "lcb-v5", 3)
    file = write(tmp_path / "test5.jsonl", *(problem(str(n)) for n in range(3)))
    run = tmp_path / "run"

    def complete() -> bool:
        if not RunPaths(run).journal.exists():
            return False
        with Journal(RunPaths(run).journal) as journal:
            states = [load_progress(each) for each in journal.load().values()]
        answers = [state.answer for state in states if state is not None]
        return sum(answer is not None and answer.done for answer in answers) == 3

    async with serve(lambda _: Reply(program("accepted"))) as server:
        command = served(
            server, "lcb-v5", run, "--data", str(file), "--answer-tokens", "200"
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, *command[1:], cwd=ROOT, stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )  # fmt: skip
        await eventually(complete)
        process.kill()
        await process.wait()
        assert not rows_of(run)
        generated = server.written
        install(monkeypatch, FakeProgramJudge(version="fake 7"))
        await asyncio.to_thread(finish, command)
        assert server.written == generated + 1  # of the probe at the start
    assert [row.outcome for row in rows_of(run).values()] == ["correct"] * 3


def grader(judge: FakeProgramJudge, workers: int = 1) -> Grader:
    tests = ProgramTests("python", "stdin", lambda: [ProgramTest("1", "1")])
    return Grader({"a": JudgedProblem(ProgramTask(python_program, tests))}, judge, workers)


async def test_a_stop_leaves_responses_that_wait_for_the_judge_in_flight():
    judge = FakeProgramJudge(gate=asyncio.Event())
    assert judge.gate is not None
    grading, stopped = grader(judge), False

    def checkpoint() -> None:
        if stopped:
            raise Draining

    result = JobResult(row=rows.row(answer="```\n# accepted\n```"))
    first, second = (asyncio.create_task(grading.finish(result, checkpoint)) for _ in range(2))
    await eventually(lambda: judge.running > 0)
    stopped = True
    judge.gate.set()
    finished = (await first).row
    assert isinstance(finished, Evaluation)
    assert finished.outcome == "correct"
    with pytest.raises(Draining):
        await second
    assert len(judge.judged) == 1
    grading.close()


async def test_tests_that_cannot_be_read_stop_the_run():
    def load() -> list[ProgramTest]:
        raise InputError("test5.jsonl:1: the tests have changed")

    tests = ProgramTests("python", "stdin", load)
    grading = Grader({"a": JudgedProblem(ProgramTask(python_program, tests))}, FakeProgramJudge())
    with pytest.raises(InputError, match="have changed"):
        await grading.finish(JobResult(row=rows.row(answer="```\n1\n```")))
    grading.close()
