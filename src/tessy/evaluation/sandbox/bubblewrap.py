"""Bubblewrap: namespaces in which a program sees a read-only system and its own folder only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tessy.evaluation.sandbox.base import Execution, Limits, SandboxCommand, SandboxError
from tessy.evaluation.sandbox.environment import (
    SYSTEM_FOLDERS,
    UNPRIVILEGED_USER,
    program_environment,
)
from tessy.evaluation.sandbox.interpreter import Interpreter
from tessy.evaluation.sandbox.supervisor import supervise

_NEEDED = {"bwrap": "bubblewrap", "prlimit": "util-linux", "setpriv": "util-linux"}
_BOX = "/box"
# A program that is the first process of its namespace: when it ends, the kernel kills all others,
# and their CPU time is added to that of bubblewrap. With bubblewrap's own first process neither
# holds. Signals that such a process sends to itself have no effect unless it handles them.
_NAMESPACES = (
    "--unshare-user --unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try "
    "--disable-userns --die-with-parent --new-session --as-pid-1 --clearenv --hostname sandbox"
)


class Bubblewrap:
    """A sandbox of Linux namespaces, for root and other users."""

    def __init__(self, interpreter: Interpreter, seccomp: bytes | None) -> None:
        """Check that the required programs are installed.

        Args:
            interpreter: The Python to show to programs.
            seccomp: Filter of system calls, as a BPF program.

        Raises:
            SandboxError: Bubblewrap is not installed, or its version is unknown.
        """
        for program, package in _NEEDED.items():
            if not shutil.which(program):
                raise SandboxError(f"`{program}` is missing (`apt-get install {package}`)")
        shown = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False)
        version = re.fullmatch(r"bubblewrap (\S+)\n", shown.stdout)
        if version is None:
            raise SandboxError(f"`bwrap --version` fails: {shown.stderr.strip()}")
        self._name = f"bubblewrap {version[1]}" + (" with seccomp" if seccomp else "")
        self._seccomp = seccomp
        self._installation = tuple(_installation(interpreter))
        self._prefix = [*_other_user(), "bwrap", *_NAMESPACES.split(), *_system()]

    @property
    def name(self) -> str:
        """Name and version."""
        return self._name

    @property
    def gaps(self) -> Sequence[str]:
        """Empty: no gaps are known."""
        return ()

    def run(self, command: SandboxCommand, limits: Limits, stop: threading.Event) -> Execution:
        """Run a command; see :meth:`Sandbox.run`."""
        options = [*self._prefix, *_temporary(limits), *self._installation, *_box(command)]
        options += ["--json-status-fd", "{status}"]
        if self._seccomp:
            options += ["--seccomp", "{seccomp}"]
        rlimits = [f"--{name}={value}" for name, value in limits.rlimits.items()]
        return supervise(
            [*options, "--", "prlimit", *rlimits, "--", *command.argv],
            stdin=command.stdin,
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            descriptors={"seccomp": self._seccomp} if self._seccomp else {},
            limits=limits,
            stop=stop,
        )


def _other_user() -> Sequence[str]:
    """Return the command prefix that changes the user, because limits do not bind root."""
    if os.geteuid() != 0:
        return []
    change = [
        f"--reuid={UNPRIVILEGED_USER}",
        f"--regid={UNPRIVILEGED_USER}",
        "--clear-groups",
        "--no-new-privs",
    ]
    return ["setpriv", *change, "--"]


def _system() -> Sequence[str]:
    """Return the options that mount the system's folders."""
    options = ["--ro-bind", "/usr", "/usr"]
    for folder in SYSTEM_FOLDERS:
        if folder.is_symlink():
            options += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.exists():
            options += ["--ro-bind", str(folder), str(folder)]
    # The dynamic linker needs the former for Debian's numpy, the latter for /usr/local.
    for name in ("/etc/alternatives", "/etc/ld.so.cache"):
        options += ["--ro-bind-try", name, name]
    return options


def _installation(interpreter: Interpreter) -> Iterator[str]:
    """Yield the options for an interpreter outside of ``/usr``, at its own path."""
    for folder in interpreter.folders:
        yield from (*_parents(folder), "--ro-bind", str(folder), str(folder))


def _parents(folder: Path) -> Iterator[str]:
    """Yield the options that create the parents of a folder, accessible to every user."""
    for parent in [*folder.parents][-2::-1]:
        yield from ("--perms", "0755", "--dir", str(parent))


def _temporary(limits: Limits) -> Sequence[str]:
    """Return the options that mount folders in memory."""
    options = ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp"):
        size = str(limits.disk_mib << 20)
        options += ["--size", size, "--perms", "0777", "--tmpfs", folder]
    return options


def _box(command: SandboxCommand) -> Sequence[str]:
    """Return the options for the folder of the program, and its environment."""
    options = ["--ro-bind", str(command.box), _BOX, "--chdir", _BOX]
    for name, value in program_environment("/tmp").items():
        options += ["--setenv", name, value]
    # Both are file systems in memory of unlimited size, owned by the program's user.
    return [*options, "--remount-ro", "/dev", "--remount-ro", "/"]
