"""Landlock, seccomp and limits: a sandbox for systems that do not allow namespaces.

A small script (:mod:`tessy.evaluation.sandbox.launcher`) starts the program and waits for it.
Without Landlock, the same script applies only limits and the filter of system calls.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tessy.evaluation.sandbox import launcher
from tessy.evaluation.sandbox.base import Execution, Limits, SandboxCommand, SandboxError
from tessy.evaluation.sandbox.environment import (
    SYSTEM_FOLDERS,
    UNPRIVILEGED_USER,
    program_environment,
)
from tessy.evaluation.sandbox.interpreter import Interpreter
from tessy.evaluation.sandbox.supervisor import supervise

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_FILES = ("/etc/alternatives", "/etc/ld.so.cache")
_SIGNALS_SINCE = 6  # version of Landlock
_USERS = range(UNPRIVILEGED_USER - 2000, UNPRIVILEGED_USER - 1000)

_EXISTENCE = "see that processes, users and files exist, the sizes of files and the host's name"
_UNPROTECTED = (
    _EXISTENCE,
    "read the files that its user can read",
    "write files in folders that its user can write to",
    "send signals to processes of its user",
)


class Landlock:
    """A sandbox of Landlock, seccomp and limits; each program has its own user if run by root."""

    def __init__(
        self, interpreter: Interpreter, seccomp: bytes | None, *, restrict_files: bool = True
    ) -> None:
        """Check the requirements.

        Args:
            interpreter: The Python that runs the launcher, and that programs can use.
            seccomp: Filter of system calls, as a BPF program.
            restrict_files: Whether to use Landlock. Without it there is no protection of files.

        Raises:
            SandboxError: The kernel has no Landlock, or there is no filter.
        """
        self._interpreter = interpreter
        self._seccomp = seccomp
        self._landlock = launcher.landlock_version() if restrict_files else 0
        self._changes_user = os.geteuid() == 0
        if not restrict_files:
            return
        if not self._landlock:
            raise SandboxError("the kernel has no Landlock (it needs Linux 5.13)")
        if seccomp is None:
            raise SandboxError("without a filter of system calls, programs can use the network")
        if self._landlock < _SIGNALS_SINCE and not self._changes_user:
            raise SandboxError(
                "this kernel's Landlock does not deny signals to other processes (it needs "
                "Linux 6.12, or root, which can change the user)"
            )

    @property
    def name(self) -> str:
        """Name and version."""
        parts = [f"landlock {self._landlock}"] if self._landlock else ["limits"]
        parts += ["seccomp"] * (self._seccomp is not None)
        return " with ".join(parts) if self._landlock else f"unprotected ({', '.join(parts)})"

    @property
    def gaps(self) -> Sequence[str]:
        """What a program can do although a sandbox should prevent it."""
        if not self._landlock:
            network = () if self._seccomp else ("use the network",)
            return (*_UNPROTECTED, *network)
        return (_EXISTENCE,)

    def run(self, command: SandboxCommand, limits: Limits, stop: threading.Event) -> Execution:
        """Run a command; see :meth:`Sandbox.run`."""
        with _own_user(change=self._changes_user) as uid, self._folder(command, uid) as temporary:
            specification = {
                "argv": self._resolved(command),
                "folder": str(command.box),
                "environment": program_environment(temporary),
                "rlimits": limits.rlimits,
                "uid": uid,
                "landlock": bool(self._landlock),
                "readable": self._readable(command),
                "writable": [temporary, *_DEVICES] if command.writes_files else _DEVICES,
            }
            return supervise(
                [
                    *(str(self._interpreter.path), "-I", "-S", launcher.__file__),
                    *("{status}", "{seccomp}" if self._seccomp else "-"),
                    json.dumps(specification),
                ],
                stdin=command.stdin,
                environment={},
                descriptors={"seccomp": self._seccomp} if self._seccomp else {},
                limits=limits,
                stop=stop,
            )

    def _resolved(self, command: SandboxCommand) -> Sequence[str]:
        program = command.argv[0]
        return [shutil.which(program) or str(command.box / program), *command.argv[1:]]

    def _readable(self, command: SandboxCommand) -> Sequence[str]:
        folders = [Path("/usr"), *SYSTEM_FOLDERS, *self._interpreter.folders, *map(Path, _FILES)]
        return [str(folder) for folder in folders if folder.exists()] + [str(command.box)]

    @contextmanager
    def _folder(self, command: SandboxCommand, uid: int | None) -> Iterator[str]:
        """Yield a temporary folder; for a program that writes no files, its own folder."""
        if not command.writes_files:
            yield str(command.box)
            return
        with tempfile.TemporaryDirectory(prefix="tessy-", ignore_cleanup_errors=True) as folder:
            if uid is not None:
                os.chown(folder, uid, uid)
            yield folder


@contextmanager
def _own_user(*, change: bool) -> Iterator[int | None]:
    """Yield a user id that no other run has; None: the user is not changed.

    All processes of the user are killed at the end, and their number is limited, so no other run,
    also of another tessy process, may have the same user. The lock is a name bound to a socket: the
    kernel releases it when its process ends.
    """
    if not change:
        yield None
        return
    for uid in random.sample(_USERS, len(_USERS)):
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0tessy-user-{uid}")
            except OSError:
                continue
            yield uid
            return
    raise SandboxError(
        f"all {len(_USERS)} users for programs are in use; wait until other judges end"
    )
