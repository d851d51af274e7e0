"""Choice of the sandbox, and the checks before it is used."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

import tessy
from tessy.core.errors import ConfigError
from tessy.evaluation.programs.judge import open_judge
from tessy.evaluation.sandbox import detect, launcher, seccomp
from tessy.evaluation.sandbox.base import Execution, Limits, SandboxCommand
from tessy.evaluation.sandbox.detect import open_sandbox
from tessy.evaluation.sandbox.interpreter import find_interpreter
from tests.support.sandboxes import (
    BACKENDS,
    PYTHON,
    backend,
    folder_for_boxes,
    program_tests,
    run_python,
)

PROTECTION = {"no_network", "no_secret", "no_write", "no_signal"}


def without(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    """Hide programs."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name in programs else which(name))


def test_bubblewrap_is_preferred_and_recorded():
    backend("bubblewrap")
    record = json.loads(json.dumps(open_sandbox(allow_unsafe=False).to_json()))
    assert record["sandbox"].startswith("bubblewrap ")
    assert record["gaps"] == []
    assert record["python"] == f"{PYTHON.version} ({PYTHON.path})"
    assert len(record["canaries"]) == 9
    assert all(record["canaries"].values())


def test_landlock_is_used_where_bubblewrap_is_missing(monkeypatch: pytest.MonkeyPatch):
    backend("landlock")
    without(monkeypatch, "bwrap")
    opened = open_sandbox(allow_unsafe=True)
    assert opened.sandbox.name.startswith("landlock ")
    assert opened.sandbox.gaps
    assert all(opened.canaries.values())


def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "bwrap")
    monkeypatch.setattr(launcher, "landlock_version", lambda: 0)


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch):
    no_sandbox(monkeypatch)
    with pytest.raises(ConfigError) as raised:
        open_judge(workers=1, allow_unsafe=False)
    message = str(raised.value)
    assert "bubblewrap: `bwrap` is missing (`apt-get install bubblewrap`)" in message
    assert "landlock: the kernel has no Landlock" in message
    assert "--allow-unsafe-judging" in message


async def test_without_a_sandbox_the_user_can_insist(monkeypatch: pytest.MonkeyPatch):
    no_sandbox(monkeypatch)
    judge = open_judge(workers=1, allow_unsafe=True)
    try:
        assert "unprotected" in judge.version
        assert (await judge.judge("print(6)", program_tests(("", "6")))).status == "accepted"
    finally:
        judge.close()
    record = open_sandbox(allow_unsafe=True).to_json()
    assert "read the files that its user can read" in str(record["gaps"])
    canaries = record["canaries"]
    assert isinstance(canaries, dict)
    assert not canaries["no_secret"]
    assert not canaries["no_write"]
    assert all(passed for name, passed in canaries.items() if name not in PROTECTION)


class PlainProcesses:
    """Runs programs without any protection; a sandbox that starts, but does nothing."""

    name = "plain"
    gaps: Sequence[str] = ()

    def run(self, command: SandboxCommand, limits: Limits, stop: threading.Event) -> Execution:
        try:
            done = subprocess.run(
                ["prlimit", f"--as={limits.address_space_mib << 20}", *command.argv],
                cwd=command.box,
                input=command.stdin,
                capture_output=True,
                timeout=limits.cpu_seconds if limits.cpu_seconds < 1 else 10,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Execution("wall", None, 0.0, 0.0, b"", b"")
        return Execution("exit", done.returncode, 0.0, 0.0, done.stdout, done.stderr)


def test_a_sandbox_that_protects_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(detect, "Bubblewrap", lambda *_: PlainProcesses())
    monkeypatch.setattr(detect, "Landlock", lambda *_, **__: PlainProcesses())
    with pytest.raises(ConfigError) as raised:
        open_sandbox(allow_unsafe=False)
    failed = "no_network, no_secret, no_write, no_signal"
    assert f"bubblewrap: plain starts, but these checks fail: {failed}\n" in str(raised.value)


class NoProcesses:
    """Runs nothing and reports success."""

    name = "broken"
    gaps: Sequence[str] = ()

    def run(self, command: SandboxCommand, limits: Limits, stop: threading.Event) -> Execution:
        return Execution("exit", 0, 0.0, 0.0, b"", b"")


def test_a_sandbox_with_wrong_verdicts_is_not_used_even_if_the_user_insists(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(detect, "Bubblewrap", lambda *_: NoProcesses())
    monkeypatch.setattr(detect, "Landlock", lambda *_, **__: NoProcesses())
    failed = "accepted, runtime_error, time_limit, memory_limit\n"
    with pytest.raises(ConfigError) as raised:
        open_sandbox(allow_unsafe=True)
    message = str(raised.value)
    assert f"without protection: broken starts, but these checks fail: {failed}" in message


def test_without_pyseccomp_bubblewrap_has_no_filter(monkeypatch: pytest.MonkeyPatch):
    backend("bubblewrap")
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    assert "seccomp" not in open_sandbox(allow_unsafe=False).sandbox.name
    without(monkeypatch, "bwrap")
    with pytest.raises(ConfigError, match=r"pip install 'tessy\[sandbox\]'"):
        open_sandbox(allow_unsafe=False)


FIRST_NEW_CALL = 424  # its number, since Linux 5.1


def use_old_libseccomp(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Make libseccomp return no number for new system calls and for ``missing`` ones."""
    pyseccomp = pytest.importorskip("pyseccomp")
    resolve = pyseccomp.resolve_syscall

    def resolve_old(arch: int, name: str) -> int:
        number: int = resolve(arch, name)
        return -1 if number >= FIRST_NEW_CALL or name in missing else number

    monkeypatch.setattr(pyseccomp, "resolve_syscall", resolve_old)


def test_an_old_libseccomp_has_the_same_filter(monkeypatch: pytest.MonkeyPatch):
    backend("landlock")
    expected = seccomp.build_filter()
    use_old_libseccomp(monkeypatch)
    assert seccomp.build_filter() == expected


def test_a_filter_that_would_lack_a_rule_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog):
    backend("landlock")
    use_old_libseccomp(monkeypatch, "ptrace", "keyctl")
    message = "this version of libseccomp does not know ptrace, keyctl; install a newer one"
    with pytest.raises(seccomp.OldSeccompError, match=message):
        seccomp.build_filter()
    assert detect.sandbox_filter() is None
    assert f"the sandbox has no filter of system calls: {message}" in caplog.text
    without(monkeypatch, "bwrap")
    with pytest.raises(ConfigError, match=f"landlock: {message}"):
        open_sandbox(allow_unsafe=False)


WITHOUT_FILTER = """
import ctypes, errno, socket
try: socket.create_connection(("127.0.0.1", int(input())), 1)
except OSError as error: print(errno.errorcode[error.errno])
library = ctypes.CDLL(None, use_errno=True)
print(library.unshare(0x10000000), library.mount(b"none", b"/usr", b"tmpfs", 0, None))
"""


def test_bubblewrap_without_a_filter_has_no_network_and_no_namespaces():
    backend("bubblewrap")
    with folder_for_boxes() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        sandbox = BACKENDS["bubblewrap"](PYTHON, None)
        port = str(server.getsockname()[1]).encode()
        execution = run_python(sandbox, WITHOUT_FILTER, folder / "box", stdin=port)
    assert execution.stdout.decode().split() == ["ECONNREFUSED", "-1", "-1"]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_python_of_ones_own(name: str):
    backend(name)
    with folder_for_boxes() as folder:
        own = folder / "deep" / "own"
        subprocess.run([PYTHON.path, "-m", "venv", "--without-pip", own], check=True)
        (packages,) = own.glob("lib/python3*/site-packages")
        (packages / "installed_module.py").write_text("number = 42\n")
        interpreter = find_interpreter(own / "bin" / "python3")
        sandbox = BACKENDS[name](interpreter, detect.sandbox_filter())
        box = folder / "box"
        box.mkdir(mode=0o755)
        code = "import installed_module, sys\nprint(installed_module.number, sys.prefix)"
        command = SandboxCommand([str(interpreter.path), "-c", code], box)
        execution = sandbox.run(command, Limits(10, 256, 256), threading.Event())
    assert execution.stdout.decode().split() == ["42", str(own)], execution


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_a_python_that_another_user_cannot_reach_is_refused(tmp_path: Path):
    own = tmp_path / "own"  # pytest's folders are closed to others
    subprocess.run([PYTHON.path, "-m", "venv", "--without-pip", own], check=True)
    with pytest.raises(ConfigError, match="the program was not started"):
        open_sandbox(allow_unsafe=False, python=own / "bin" / "python3")


def test_a_python_that_does_not_run_is_refused():
    with pytest.raises(ConfigError, match="/bin/false is not a working Python"):
        find_interpreter(Path("/bin/false"))
    with pytest.raises(ConfigError, match="nowhere is not a working Python"):
        find_interpreter(Path("/nowhere"))


@pytest.mark.parametrize("name", BACKENDS)
def test_links_of_the_system_are_visible(name: str):
    """Debian's numpy finds its libraries by them."""
    with folder_for_boxes() as folder:
        code = "import os\nprint(len(os.listdir('/etc/alternatives')) > 0)"
        assert run_python(backend(name), code, folder / "box").stdout == b"True\n"


AS_ANOTHER_USER = """
import json, sys
sys.path.insert(0, {source!r})
from tessy.evaluation.sandbox import detect
from tessy.evaluation.sandbox.interpreter import find_interpreter
sandbox = dict(detect._backends(find_interpreter()))[{name!r}]()
print(json.dumps(detect.run_canaries(sandbox, find_interpreter())))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user")
@pytest.mark.parametrize("name", BACKENDS)
def test_an_ordinary_user_has_the_same_protection(name: str):
    backend(name)
    import pyseccomp

    with folder_for_boxes() as folder:
        package = Path(tessy.__file__).parent
        for part in ("__init__.py", "core", "evaluation/__init__.py", "evaluation/sandbox"):
            copy = shutil.copytree if (package / part).is_dir() else shutil.copyfile
            (folder / "tessy" / part).parent.mkdir(exist_ok=True)
            copy(package / part, folder / "tessy" / part)
        shutil.copyfile(pyseccomp.__file__, folder / "pyseccomp.py")
        code = AS_ANOTHER_USER.format(source=str(folder), name=name)
        user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
        done = subprocess.run(
            [*user, PYTHON.path, "-B", "-c", code], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout).values()) == {True}
