import asyncio
import io
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tessy.runtime.progress import Progress, ProgressState, SteadyConsole, TimeLeft, render

STATE = """
import asyncio, logging, sys
from tessy.runtime.progress import Progress, ProgressState
import time
state = ProgressState(total=40, now=time.monotonic(), done=2)
"""


def busy() -> ProgressState:
    state = ProgressState(total=40, now=100.0, done=2, reasons={"refused": 1})
    for number in range(12):
        state.started(f"p{number}/0")
    for number in range(8):
        state.finished(f"p{number}/0")
    state.failed("p8/0", "budget")
    state.drafted("student", 400)
    state.kept("student", 300)
    state.drafted("teacher", 1600)
    state.kept("teacher", 1500)
    return state


def test_the_line_contains_all_figures() -> None:
    state = busy()
    state.observe(130.0)
    assert state.line(130.0) == (
        "10 of 40 done, 2 failed (refused by the server 1, budget exceeded 1), 3 in flight; "
        "10 student + 50 teacher tokens/s kept; 10.0 % rolled back; 1 min to 2 min left"
    )


def test_a_single_author_has_no_kept_share_and_no_other_is_named() -> None:
    state = ProgressState(total=4, now=100.0, authors=("teacher",))
    state.drafted("teacher", 310)
    state.kept("teacher", 300)
    state.observe(130.0)
    assert "; 10 teacher tokens/s; " in state.line(130.0)
    out = io.StringIO()
    Console(file=out, width=100).print(render(state, 130.0))
    assert "teacher 10 tokens/s" in out.getvalue()
    for text in ("student", "rolled back", "kept"):
        assert text not in state.line(130.0) + out.getvalue()


def test_reading_the_state_does_not_change_it() -> None:
    state = busy()
    assert state.line(130.0) == state.line(130.0)


def test_rates_cover_one_minute() -> None:
    state = ProgressState(total=1, now=0.0)
    state.kept("student", 6000)
    state.observe(10.0)
    for now in range(20, 200, 10):
        state.observe(float(now))
    assert state.rate("student", 190.0) == 0
    state.kept("student", 120)
    assert state.rate("student", 190.0) == pytest.approx(2.0)


def test_the_time_left_is_unknown_at_first() -> None:
    state = ProgressState(total=10, now=0.0)
    for key in "ab":
        state.started(key)
        state.finished(key)
    assert state.time_left(10.0) is None
    assert "estimating time left" in state.line(10.0)


def test_samples_of_earlier_processes_do_not_count_for_the_rate() -> None:
    state = ProgressState(total=100, now=0.0, done=90)
    assert state.time_left(5.0) is None


def test_waiting_time_does_not_affect_the_estimate() -> None:
    state, without = (ProgressState(total=20, now=0.0) for _ in range(2))
    for key in "abcd":
        state.finished(key)
        without.finished(key)
    state.observe(40.0)
    state.waiting("student server http://h:1 refuses connections")
    state.observe(640.0)
    assert "waiting: student server http://h:1 refuses" in state.line(640.0)
    state.waiting(None)
    assert "waiting" not in state.line(640.0)
    assert state.time_left(640.0) == without.time_left(40.0)


def test_a_complete_run_has_nothing_left() -> None:
    state = ProgressState(total=1, now=0.0)
    state.finished("a")
    assert state.line(1.0).endswith("nothing left")


@given(ended=st.integers(3, 500), rest=st.integers(1, 500), seconds=st.floats(1, 1e6))
def test_the_interval_contains_the_estimate_and_narrows(
    ended: int, rest: int, seconds: float
) -> None:
    def left(times: int) -> TimeLeft:
        state = ProgressState(total=times * (ended + rest), now=0.0)
        for number in range(times * ended):
            state.finished(str(number))
        found = state.time_left(seconds)
        assert found is not None
        return found

    once, twice = left(1), left(2)
    assert once.low <= rest * seconds / ended <= once.high
    assert twice.high / twice.low < once.high / once.low


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (3.0, 8.0, "about 10 s left"),
        (14.0, 55.0, "20 s to 60 s left"),
        (2400.0, 4200.0, "40 min to 70 min left"),
        (5400.0, 5500.0, "about 1.5 h left"),
        (40_000.0, 90_000.0, "11 h to 25 h left"),
    ],
)
def test_time_left_in_words(low: float, high: float, text: str) -> None:
    assert str(TimeLeft(low, high)) == text


def test_the_view_contains_all_figures() -> None:
    state = busy()
    state.waiting("teacher is down\x1b[2J")
    out = io.StringIO()
    Console(file=out, width=100).print(render(state, 130.0))
    text = out.getvalue()
    for part in ("10 of 40 done", "student 10 tokens/s", "rolled back 10.0 %", "30 s so far"):
        assert part in text
    assert "waiting: teacher is down␛[2J" in text
    assert "\x1b" not in text


async def test_without_a_terminal_plain_lines_are_printed() -> None:
    drawn = asyncio.Event()
    now = 0.0

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            if self.getvalue().count("\n") >= 3:
                drawn.set()
            return super().write(text)

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    out = Out()

    state = ProgressState(total=2, now=0.0)
    async with Progress(state, Console(file=out, width=40), clock=clock, interval=0.001):
        state.started("a")
        await drawn.wait()
        state.finished("a")
    lines = out.getvalue().splitlines()
    assert all(re.match(r"\d of 2 done, 0 failed, ", line) for line in lines)
    assert "1 in flight" in lines[1]
    assert lines[-1].startswith("1 of 2 done, 0 failed, 0 in flight")
    assert "\x1b" not in out.getvalue()


async def test_an_error_in_the_block_passes_through() -> None:
    state = ProgressState(total=1, now=0.0)
    with pytest.raises(KeyError):
        async with Progress(state, Console(file=io.StringIO()), clock=lambda: 1.0):
            raise KeyError


class Gone(io.StringIO):
    """A closed terminal or a broken pipe."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        raise self.error


async def test_a_broken_pipe_does_not_stop_the_run() -> None:
    out = Gone(BrokenPipeError("no reader"))
    state = ProgressState(total=1, now=0.0)
    async with Progress(state, SteadyConsole(file=out), clock=lambda: 1.0, interval=0.001):
        await asyncio.sleep(0.01)
        state.finished("a")
    assert out.writes == 1


async def test_a_closed_terminal_does_not_stop_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = ProgressState(total=1, now=0.0)
    with caplog.at_level(logging.WARNING, logger="tessy.runtime.progress"):
        async with Progress(state, SteadyConsole(file=Gone(OSError("hung up"))), clock=lambda: 1.0):
            await asyncio.sleep(0)
            state.finished("a")
    assert "the progress view failed: hung up" in caplog.text


def on_a_terminal(body: str, *, interrupt_at: bytes | None = None) -> tuple[str, int]:
    """Run ``body`` in a child on a pseudo-terminal; its output and exit status."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    env.pop("NO_COLOR", None)
    child = subprocess.Popen(
        [sys.executable, "-c", STATE + textwrap.dedent(body)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        start_new_session=True,
    )
    os.close(theirs)
    output = b""
    interrupted = False
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux: the other side of a terminal is closed
                break
            if not piece:
                break
            output += piece
            if interrupt_at and interrupt_at in output and not interrupted:
                interrupted = True
                child.send_signal(signal.SIGINT)
    finally:
        os.close(ours)
        child.wait(60)
    return output.decode(), child.returncode


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def test_log_messages_and_prints_appear_above_the_live_view() -> None:
    output, status = on_a_terminal(
        """
        logging.basicConfig(level=logging.INFO, format="LOG %(message)s")
        async def main():
            async with Progress(state, interval=0.01):
                await asyncio.sleep(0.05)
                logging.getLogger("tessy.x").info("server [1] is back")
                print("printed")
                await asyncio.sleep(0.05)
            logging.getLogger("tessy.x").info("after")
        asyncio.run(main())
        """
    )
    assert status == 0, output
    # The view is erased (cursor up, line cleared) before the message is written.
    assert re.search(r"\x1b\[1A\x1b\[2K(\x1b\[[0-9;]*m)*LOG server \[1\] is back", output)
    assert "printed" in output
    assert output.index(SHOW) < output.index("LOG after")
    assert "2 of 40 done" in output[output.index(SHOW) :]


def test_ctrl_c_restores_the_terminal() -> None:
    output, status = on_a_terminal(
        """
        async def main():
            async with Progress(state, interval=0.01):
                await asyncio.sleep(50)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted", sys.stderr is sys.__stderr__)
        """,
        interrupt_at=b"2 of 40 done",
    )
    assert status == 0, output
    assert HIDE in output
    assert output.rindex(SHOW) > output.rindex(HIDE)
    assert "interrupted True" in output


def test_an_abort_restores_the_terminal() -> None:
    output, status = on_a_terminal(
        """
        async def main():
            progress = Progress(state, interval=0.01)
            await progress.__aenter__()
            await asyncio.sleep(0.05)
            progress.close()
            import os
            os._exit(3)
        asyncio.run(main())
        """
    )
    assert status == 3
    assert output.rindex(SHOW) > output.rindex(HIDE)


def test_an_abandoned_view_is_closed_at_exit() -> None:
    output, status = on_a_terminal(
        """
        async def main():
            await Progress(state, interval=0.01).__aenter__()
            await asyncio.sleep(0.05)
            sys.exit(4)
        asyncio.run(main())
        """
    )
    assert status == 4
    assert output.rindex(SHOW) > output.rindex(HIDE)


def test_failures_of_earlier_processes_keep_their_reasons():
    state = ProgressState(total=9, now=0.0, reasons={"budget": 2, "refused": 1})
    state.started("a")
    state.failed("a", "budget")
    assert "4 failed (budget exceeded 3, refused by the server 1)" in state.line(1.0)


def test_stalled_streams_are_reported_and_no_time_left_is_given():
    state = ProgressState(total=20, now=0.0)
    for number in range(6):
        state.started(str(number))
    for number in range(4):
        state.finished(str(number))
    for now in range(0, 61, 30):
        state.observe(now)
    assert "left" in state.line(60.0)
    assert "stalled" not in state.line(60.0)
    state.observe(90.0)
    line = state.line(90.0)
    assert "stalled: no token from any server for 1 min 30 s" in line
    assert "time left unknown" in line
    out = io.StringIO()
    Console(file=out, width=100).print(render(state, 90.0))
    assert "stalled" in out.getvalue()
    state.drafted("student", 5)
    state.observe(120.0)
    assert "stalled" not in state.line(120.0)
    state.complete = state.in_flight
    assert "stalled" not in state.line(300.0)  # no sample needs another token
    state.complete -= 1
    assert "stalled" in state.line(300.0)
    # The stall does not count as work.
    assert state.outlook(120.0) != "time left unknown"


def test_no_time_left_is_given_while_no_server_answers():
    state = ProgressState(total=20, now=0.0)
    for number in range(6):
        state.started(str(number))
        state.finished(str(number))
    state.waiting("teacher: no server answers; waiting (12 s)…")
    assert "time left unknown; waiting: teacher: no server answers" in state.line(30.0)
    state.waiting(None)
    assert "unknown" not in state.line(30.0)


def test_no_time_left_is_given_while_one_of_several_servers_is_down():
    state = ProgressState(total=20, now=0.0)
    for number in range(6):
        state.started(str(number))
        state.finished(str(number))
    down = ["teacher: 1 of 2 down (http://h:1)"]
    state.servers_down = lambda: down
    assert state.line(30.0).endswith("time left unknown; teacher: 1 of 2 down (http://h:1)")
    down.clear()
    assert "unknown" not in state.line(30.0)
