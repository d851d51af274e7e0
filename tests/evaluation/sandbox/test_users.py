"""Users of programs. Apart from other tests of the sandbox, whose programs would take the users."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tessy.evaluation.sandbox import landlock
from tessy.evaluation.sandbox.base import SandboxCommand
from tests.evaluation.sandbox.test_abuse import limits
from tests.support.sandboxes import (
    MARKER,
    PYTHON,
    backend,
    folder_for_boxes,
    processes_with,
    run_python,
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_programs_at_the_same_time_have_different_users(monkeypatch: pytest.MonkeyPatch):
    first = 20_000 + 2 * (os.getpid() % 20_000)  # users that no other test process takes
    monkeypatch.setattr(landlock, "_USERS", range(first, first + 2))
    code = f"import os\nos.execv('/bin/sleep', ['sleep', '{MARKER}'])"
    stop = threading.Event()
    with folder_for_boxes() as folder, ThreadPoolExecutor(1) as threads:
        box = folder / "box"
        box.mkdir(mode=0o755)
        (box / "main.py").write_text(code)
        command = SandboxCommand([str(PYTHON.path), "main.py"], box)
        try:
            threads.submit(backend("landlock").run, command, limits(600), stop)
            while not (found := processes_with(MARKER)):
                pass
            taken = os.stat(f"/proc/{found[0]}").st_uid
            for number in range(4):
                show = "import os\nprint(os.getuid())"
                execution = run_python(backend("landlock"), show, folder / str(number))
                assert int(execution.stdout) == 2 * first + 1 - taken
        finally:
            stop.set()
