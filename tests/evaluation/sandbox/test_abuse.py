"""Programs that try to escape, in every sandbox."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tessy.evaluation.sandbox.base import Execution, Limits, Sandbox, SandboxCommand
from tests.support.attacks import ATTACKS, GAPS, HEADER
from tests.support.paths import ROOT
from tests.support.sandboxes import (
    BACKENDS,
    MARKER,
    PYTHON,
    backend,
    folder_for_boxes,
    processes_with,
    run_python,
)

# All attacks of a sandbox run when the first test needs them.
pytestmark = pytest.mark.xdist_group("attacks")

MEBIBYTES = 256


@contextmanager
def facts_about_the_machine(folder: Path) -> Iterator[dict[str, object]]:
    """Yield what a program without a sandbox could reach."""
    secret = folder / "secret"
    secret.write_text("42")
    secret.chmod(0o644)
    folder.chmod(0o777)
    abstract = f"tessy-{os.getpid()}-{threading.get_ident()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0" + abstract)
        unix.listen()
        yield {
            "harness": os.getpid(),
            "port": server.getsockname()[1],
            "abstract": abstract,
            "secret": str(secret),
            "folder": str(folder),
            "variable": "TESSY_TEST_SECRET",
            "host": socket.gethostname(),
        }


def limits(seconds: float) -> Limits:
    return Limits(seconds, MEBIBYTES, MEBIBYTES, output_mib=1, disk_mib=4, processes=32)


@pytest.fixture(scope="module", params=BACKENDS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return backend(request.param)


@pytest.fixture(scope="module")
def runs(sandbox: Sandbox) -> Iterator[Mapping[str, Future[Execution]]]:
    """Run all attacks, several at a time, because most of them wait."""
    os.environ["TESSY_TEST_SECRET"] = "secret"
    with (
        folder_for_boxes() as boxes,
        folder_for_boxes() as folder,
        facts_about_the_machine(folder) as facts,
        ThreadPoolExecutor(6) as threads,
    ):
        stdin = json.dumps(facts).encode()
        yield {
            name: threads.submit(
                run_python,
                sandbox,
                HEADER + attack.code,
                boxes / str(number),
                stdin=stdin,
                limits=limits(attack.seconds),
            )
            for number, (name, attack) in enumerate(ATTACKS.items())
        }
    del os.environ["TESSY_TEST_SECRET"]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails(
    name: str,
    sandbox: Sandbox,
    runs: Mapping[str, Future[Execution]],
):
    attack, execution = ATTACKS[name], runs[name].result()
    busy = {"cpu", "wall"}  # on a machine with other load, the latter can precede the former
    assert execution.ended in (busy if attack.ended in busy else {attack.ended}), execution
    if attack.ended != "exit":
        assert execution.exit_code is None
    elif attack.crashes:
        assert execution.exit_code not in (0, None)
    else:
        kind = sandbox.name.split()[0]
        assert execution.stdout.decode("utf-8", "replace") == attack.differs.get(
            kind, attack.output
        ), execution
        assert execution.exit_code == 0, execution


def test_gaps_are_those_that_the_sandbox_states(sandbox: Sandbox):
    open_ones = [name for name, gap in GAPS.items() if sandbox.name.split()[0] in gap.differs]
    assert bool(open_ones) == bool(sandbox.gaps)
    stated = " ".join(sandbox.gaps)
    assert all(word in stated for word in ("processes", "files", "name") if open_ones)


DAEMON = f"""
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "{MARKER}"])
    os._exit(0)
os.wait()
print("left")
"""


def test_no_process_is_left(sandbox: Sandbox):
    with folder_for_boxes() as folder:
        execution = run_python(sandbox, DAEMON, folder / "box")
    assert execution.stdout == b"left\n"
    assert processes_with(MARKER) == []


BURN = """
import os, time
if os.fork():
    os.wait()
while time.process_time() < 0.3: pass
"""


def test_cpu_time_of_all_processes_counts(sandbox: Sandbox):
    with folder_for_boxes() as folder:
        execution = run_python(sandbox, BURN, folder / "box")
    assert execution.exit_code == 0
    assert 0.6 <= execution.cpu_seconds < 10


def test_a_stopped_program_and_its_daemons_end(sandbox: Sandbox):
    stop = threading.Event()
    code = DAEMON + "import time\ntime.sleep(1000)\n"
    with folder_for_boxes() as folder, ThreadPoolExecutor(1) as threads:
        box = folder / "box"
        box.mkdir(mode=0o755)
        (box / "main.py").write_text(code)
        command = SandboxCommand([str(PYTHON.path), "main.py"], box)
        run = threads.submit(sandbox.run, command, limits(600), stop)
        while not processes_with(MARKER):
            assert not run.done()
        stop.set()
        assert run.result().ended == "stopped"
    assert processes_with(MARKER) == []


KILLED = """
import sys
from pathlib import Path
from tests.support.sandboxes import backend, run_python
run_python(backend(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
"""


def test_no_process_is_left_if_the_judge_is_killed(sandbox: Sandbox):
    code = DAEMON + "import time\ntime.sleep(1000)\n"
    with folder_for_boxes() as folder:
        name = sandbox.name.split()[0]
        argv = [sys.executable, "-c", KILLED, name, code, str(folder / "box")]
        judge = subprocess.Popen(argv, cwd=ROOT)
        while not processes_with(MARKER):
            assert judge.poll() is None
        judge.kill()
        judge.wait()
        while processes_with(MARKER):
            pass


def test_a_run_finds_no_files_of_the_last_one(sandbox: Sandbox):
    code = (
        "import os\nfolder = os.environ['TMPDIR']\n"
        "print(os.listdir(folder))\nopen(folder + '/left', 'w')"
    )
    with folder_for_boxes() as folder:
        box = folder / "box"
        box.mkdir(mode=0o755)
        (box / "main.py").write_text(code)
        command = SandboxCommand([str(PYTHON.path), "main.py"], box, writes_files=True)
        for _ in range(2):
            execution = sandbox.run(command, limits(10), threading.Event())
            assert (execution.stdout, execution.exit_code) == (b"[]\n", 0), execution
