"""What a sandbox runs, the limits of a run, and its outcome."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tessy.core.errors import TessyError

Ended = Literal[
    "exit",  # the program ended by itself, or a signal of its own ended it
    "cpu",
    "wall",
    "memory",
    "output",
    "stopped",  # the caller stopped it
]

# Share of the CPU limit by which a program may exceed it before it is killed, so that the judge can
# measure again a program that is near the limit.
_GRACE = 0.25


class SandboxError(TessyError):
    """The sandbox failed, so nothing is known about the program."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a run.

    Attributes:
        cpu_seconds: CPU time of all its processes.
        memory_mib: Resident memory of all its processes, in MiB.
        address_space_mib: Address space of a process, in MiB.
        stack_mib: Stack of the main thread, in MiB; also that of other threads by default.
        output_mib: Output on standard output and standard error together, in MiB.
        disk_mib: Size of the temporary folder, in MiB.
        processes: Number of processes and threads.
    """

    cpu_seconds: float
    memory_mib: int
    address_space_mib: int
    stack_mib: int = 64
    output_mib: int = 64
    disk_mib: int = 16
    processes: int = 64

    @property
    def wall_seconds(self) -> float:
        """Time after which a program is killed that uses no CPU time."""
        return 2 * self.cpu_seconds + 1

    @property
    def killed_at_cpu_seconds(self) -> float:
        """CPU time above which a program is killed: the limit and a margin for a second run."""
        return (1 + _GRACE) * self.cpu_seconds

    @property
    def rlimits(self) -> Mapping[str, int]:
        """Limits that the kernel enforces for each process, by their name in ``prlimit``."""
        return {
            "as": self.address_space_mib << 20,
            "cpu": math.ceil(self.killed_at_cpu_seconds) + 1,  # in case the supervisor fails
            "nproc": self.processes,
            "fsize": self.disk_mib << 20,
            "stack": self.stack_mib << 20,
            "nofile": 256,
            "core": 0,
            "memlock": 0,
            "msgqueue": 0,
        }


@dataclass(frozen=True, slots=True)
class SandboxCommand:
    """A command line, and what it can read.

    Attributes:
        argv: Program and arguments. Paths are relative to ``box``, which is the current folder.
        box: Folder that the program can read. Its parents must be accessible to every user if the
            sandbox changes the user.
        stdin: Content of standard input.
        writes_files: Whether the program needs a temporary folder (``$TMPDIR``). A sandbox that
            cannot limit the size of the folder offers it to such a program only.
    """

    argv: Sequence[str]
    box: Path
    stdin: bytes = b""
    writes_files: bool = False


@dataclass(frozen=True, slots=True)
class Execution:
    """The outcome of a run.

    Attributes:
        ended: What ended it.
        exit_code: Exit status; 128 + n after signal n. None if the sandbox killed the program.
        cpu_seconds: CPU time of all its processes.
        wall_seconds: Time from start to end.
        stdout: Standard output.
        stderr: The last 4 KiB of standard error.
    """

    ended: Ended
    exit_code: int | None
    cpu_seconds: float
    wall_seconds: float
    stdout: bytes
    stderr: bytes

    @property
    def succeeded(self) -> bool:
        """Whether the program ended by itself, with status 0."""
        return self.ended == "exit" and self.exit_code == 0


class Sandbox(Protocol):
    """Runs programs. Thread-safe."""

    @property
    def name(self) -> str:
        """Name and version, as scores state them."""
        ...

    @property
    def gaps(self) -> Sequence[str]:
        """What a program can do although a sandbox should prevent it."""
        ...

    def run(self, command: SandboxCommand, limits: Limits, stop: threading.Event) -> Execution:
        """Run a command to its end, and kill all its processes. Blocks.

        Args:
            command: What to run.
            limits: Limits of the run.
            stop: The run is killed if this event is set.

        Raises:
            SandboxError: The program could not be started.
        """
        ...
