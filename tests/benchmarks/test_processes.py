"""Stopping a benchmark: no processes or files remain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support.paths import ROOT


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll until ``holds``; the time limit of the test ends it."""
    while not holds():
        time.sleep(0.05)


def is_gone(group: int) -> bool:
    """Return whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("number", "whole_group", "code"),
    [(signal.SIGINT, False, 130), (signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)],
    ids=["interrupt", "Ctrl-C", "terminate"],
)
def test_a_stopped_benchmark_ends_all_its_processes(number, whole_group, code, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    output = tmp_path / "output"
    command = [sys.executable, "-m", "benchmarks.bench_cooperation", "--concurrency", "2"]
    with output.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--seconds", "600"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(scratch)},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "tessy, 2 samples" in output.read_text())
        (os.killpg if whole_group else os.kill)(process.pid, number)
        assert process.wait() == code
        wait_until(lambda: is_gone(process.pid))
    finally:
        if not is_gone(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert list(scratch.glob("tessy-bench*")) == []
    assert "Traceback" not in output.read_text()
