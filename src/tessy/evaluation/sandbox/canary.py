"""Small programs with a known outcome, run before a sandbox is used."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tessy.evaluation.sandbox.base import Execution, Limits, Sandbox, SandboxCommand
from tessy.evaluation.sandbox.interpreter import Interpreter

_CPU_SECONDS = 10.0  # on a machine that is busy with other work
_SHORT_CPU_SECONDS = 0.4
_MEMORY_MIB = 256
_ANSWER = b"42\n"
_CONNECT = """
import json, socket, sys
try:
    socket.create_connection(("127.0.0.1", json.load(sys.stdin)["port"]), timeout=1)
except OSError:
    print("denied")
"""
_READ = """
import json, os, sys
target = json.load(sys.stdin)
if target["variable"] not in os.environ:
    try:
        open(target["folder"] + "/secret").read()
    except OSError:
        print("denied")
"""
_WRITE = """
import json, sys
try:
    open(json.load(sys.stdin)["folder"] + "/written", "w")
except OSError:
    print("denied")
"""
_SIGNAL = """
import json, os, sys
try:
    os.kill(json.load(sys.stdin)["process"], 0)
except OSError:
    print("denied")
"""


class _Check(NamedTuple):
    """A program, and a test of its outcome."""

    code: str
    passed: Callable[[Execution], bool]
    cpu_seconds: float = _CPU_SECONDS


def _denied(one: Execution) -> bool:
    return one.succeeded and one.stdout == b"denied\n"


# Every verdict depends on these.
VERDICTS: Mapping[str, _Check] = {
    "accepted": _Check("print(41 + 1)", lambda one: one.succeeded and one.stdout == _ANSWER),
    "wrong_answer": _Check("print(41)", lambda one: one.succeeded and one.stdout != _ANSWER),
    "runtime_error": _Check("1 / 0", lambda one: one.ended == "exit" and one.exit_code == 1),
    "time_limit": _Check(
        "while True: pass", lambda one: one.ended in ("cpu", "wall"), _SHORT_CPU_SECONDS
    ),
    "memory_limit": _Check(
        f"x = bytearray({4 * _MEMORY_MIB} << 20)", lambda one: b"MemoryError" in one.stderr
    ),
}
# These protect the machine, and the expected output from the program.
PROTECTION: Mapping[str, _Check] = {
    "no_network": _Check(_CONNECT, _denied),
    "no_secret": _Check(_READ, _denied),
    "no_write": _Check(_WRITE, _denied),
    "no_signal": _Check(_SIGNAL, _denied),
}


def run_canaries(sandbox: Sandbox, interpreter: Interpreter) -> Mapping[str, bool]:
    """Return which of the checks pass, by their names. Blocks.

    Raises:
        SandboxError: The sandbox cannot start a program.
    """
    checks = {**VERDICTS, **PROTECTION}
    with _targets() as targets, tempfile.TemporaryDirectory(prefix="tessy-") as folder:
        os.chmod(folder, 0o755)

        def passes(name: str) -> bool:
            box = Path(folder, name)
            box.mkdir(mode=0o755)
            (box / "main.py").write_text(checks[name].code, "utf-8")
            argv: Sequence[str] = [str(interpreter.path), "-s", "main.py"]
            command = SandboxCommand(argv, box, json.dumps(targets).encode())
            limits = Limits(checks[name].cpu_seconds, _MEMORY_MIB, _MEMORY_MIB)
            return checks[name].passed(sandbox.run(command, limits, threading.Event()))

        with ThreadPoolExecutor(2) as threads:
            return dict(zip(checks, threads.map(passes, checks), strict=True))


@contextmanager
def _targets() -> Iterator[Mapping[str, object]]:
    """Yield a port, a folder, a variable and a process that a program can reach if unprotected."""
    folder = tempfile.mkdtemp(prefix="tessy-")
    variable = f"TESSY_CANARY_{secrets.token_hex(8).upper()}"
    os.environ[variable] = "secret"
    try:
        os.chmod(folder, 0o777)
        secret = Path(folder, "secret")
        secret.write_text("secret", "utf-8")
        secret.chmod(0o644)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            pid = os.getpid()
            yield {"port": port, "folder": folder, "variable": variable, "process": pid}
    finally:
        del os.environ[variable]
        shutil.rmtree(folder)
