"""How programs run: a bounded number at a time, alone near a limit, and until they are stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tessy.core.errors import InputError
from tessy.evaluation.programs.base import ProgramTests
from tessy.evaluation.programs.gate import RunGate, StoppedError
from tessy.evaluation.sandbox.base import Execution, Limits, SandboxCommand, SandboxError
from tests.support.sandboxes import MARKER, processes_with, program_tests, running_judge

PASSED = Execution("exit", 0, 0.1, 0.1, b"1\n", b"")
ONE = program_tests(("", "1"), seconds=1.0)


class ScriptedSandbox:
    """Returns given outcomes, one after the other; the last one again and again."""

    name = "scripted"
    gaps: Sequence[str] = ()

    def __init__(self, *outcomes: Execution | Exception) -> None:
        self._outcomes = list(outcomes)
        self._lock = threading.Lock()
        self.runs = 0
        self.at_a_time = 0
        self.most_at_a_time = 0
        self.during: Callable[[SandboxCommand], object] = lambda _: None

    def run(self, command: SandboxCommand, limits: Limits, stop: threading.Event) -> Execution:
        with self._lock:
            self.runs += 1
            self.at_a_time += 1
            self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
            outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        self.during(command)
        with self._lock:
            self.at_a_time -= 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def took(seconds: float, **changes: object) -> Execution:
    return replace(PASSED, cpu_seconds=seconds, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcomes", "status", "runs"),
    [
        ([took(1.0)], "accepted", 1),
        ([took(1.1), took(0.9)], "accepted", 2),
        ([took(1.1), took(1.1)], "time_limit", 2),
        ([took(1.3, ended="cpu", exit_code=None)], "time_limit", 1),
        ([took(0.8, ended="wall", exit_code=None), took(0.9)], "accepted", 2),
        ([took(0.1, ended="wall", exit_code=None)], "time_limit", 1),
        ([took(0.8, ended="wall", exit_code=None)], "time_limit", 2),
        ([took(1.1), took(0.9, stdout=b"2")], "wrong_answer", 2),
    ],
)
async def test_a_program_near_its_limit_is_measured_again(
    outcomes: list[Execution], status: str, runs: int
):
    sandbox = ScriptedSandbox(*outcomes)
    with running_judge(sandbox=sandbox) as judge:
        assert (await judge.judge("", ONE)).status == status
    assert sandbox.runs == runs


async def test_a_second_measurement_is_alone():
    sandbox = ScriptedSandbox(*([took(1.1)] * 3), PASSED)
    seen: list[int] = []

    def during(_: SandboxCommand) -> None:
        # The first three runs overlap; the fourth and later ones repeat them.
        if sandbox.runs <= 3:
            while sandbox.runs < 3:
                pass
        else:
            seen.append(sandbox.at_a_time)

    sandbox.during = during
    with running_judge(sandbox=sandbox, workers=3) as judge:
        verdicts = await asyncio.gather(*(judge.judge("", ONE) for _ in range(3)))
    assert [one.status for one in verdicts] == ["accepted"] * 3
    assert seen == [1, 1, 1]


async def test_a_bounded_number_runs_at_a_time():
    sandbox = ScriptedSandbox(PASSED)
    both = threading.Barrier(2)
    sandbox.during = lambda _: both.wait()
    with running_judge(sandbox=sandbox, workers=2) as judge:
        await asyncio.gather(*(judge.judge("", ONE) for _ in range(8)))
    assert (sandbox.runs, sandbox.most_at_a_time) == (8, 2)


async def test_the_event_loop_continues_meanwhile():
    sandbox = ScriptedSandbox(PASSED)
    leave = threading.Event()
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def during(_: SandboxCommand) -> None:
        loop.call_soon_threadsafe(begun.set)
        leave.wait()

    sandbox.during = during
    with running_judge(sandbox=sandbox) as judge:
        task = asyncio.create_task(judge.judge("", ONE))
        await begun.wait()
        leave.set()
        assert (await task).status == "accepted"


async def test_a_failure_of_the_sandbox_is_no_verdict():
    with running_judge(sandbox=ScriptedSandbox(SandboxError("no memory left"))) as judge:
        verdict = await judge.judge("", ONE)
    assert (verdict.status, verdict.test, verdict.detail) == ("judge_error", 0, "no memory left")


async def test_a_program_that_looks_like_a_missing_one_is_judged_if_the_sandbox_works():
    missing = took(0.1, exit_code=127)
    with running_judge(sandbox=ScriptedSandbox(missing, PASSED)) as judge:
        assert (await judge.judge("", ONE)).status == "runtime_error"
    with running_judge(sandbox=ScriptedSandbox(missing, missing)) as judge:
        assert (await judge.judge("", ONE)).status == "judge_error"


async def test_tests_that_cannot_be_read_stop_the_run():
    def load() -> Sequence[object]:
        raise InputError("tests.jsonl is damaged")

    tests = ProgramTests("python", "stdin", load)  # type: ignore[arg-type]
    with (
        running_judge(sandbox=ScriptedSandbox(PASSED)) as judge,
        pytest.raises(InputError, match="damaged"),
    ):
        await judge.judge("", tests)


SLEEP = f"""
import os
if os.fork() == 0:
    os.setsid()
    os.execv("/bin/sleep", ["sleep", "{MARKER}"])
import time
time.sleep(1000)
"""


async def until_it_runs(task: asyncio.Task[object]) -> None:
    while not processes_with(MARKER):
        assert not task.done()
        await asyncio.sleep(0.01)


async def test_cancelling_kills_the_program():
    with running_judge() as judge:
        task = asyncio.create_task(judge.judge(SLEEP, program_tests(("", ""), seconds=600.0)))
        await until_it_runs(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert processes_with(MARKER) == []


async def test_closing_kills_all_programs():
    with running_judge() as judge:
        task = asyncio.create_task(judge.judge(SLEEP, program_tests(("", ""), seconds=600.0)))
        await until_it_runs(task)
        judge.close()
        assert processes_with(MARKER) == []
        assert (await task).status == "judge_error"


def test_waiting_for_the_gate_can_be_stopped():
    gate, stop = RunGate(), threading.Event()
    stop.set()
    with gate.together(threading.Event()), pytest.raises(StoppedError), gate.alone(stop):
        pass
    with gate.together(threading.Event()):  # which a stopped wait does not block
        pass
    with gate.alone(threading.Event()), pytest.raises(StoppedError), gate.together(stop):
        pass
