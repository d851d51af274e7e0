"""Runs the process of a sandbox: feeds and reads its pipes, enforces limits, and reaps it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from tessy.evaluation.sandbox.base import Ended, Execution, Limits, SandboxError
from tessy.evaluation.sandbox.process_tree import (
    kill_descendants,
    proportional_memory,
    tree_usage,
)

_POLL_SECONDS = 0.05
_KEPT_STDERR_BYTES = 4096
_CHUNK_BYTES = 1 << 16
_DRAIN_SECONDS = 1.0
_KILL_SECONDS = 30.0


def memory_file(content: bytes) -> int:
    """Return the descriptor of a new file in memory that every user can read."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC)
    with ExitStack() as stack:
        stack.callback(os.close, descriptor)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, 0o444)
        # Read-only, and with an offset of its own, at the beginning.
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)


@dataclass
class _Supervised:
    """A running process of a sandbox; the program runs below it."""

    process: subprocess.Popen[bytes]
    limits: Limits
    stop: threading.Event
    ended: Ended = "exit"
    cpu_seconds: float = 0.0
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    _began: float = field(default_factory=time.monotonic)
    _output_bytes: int = 0

    def wait(self) -> float:
        """Wait for the end and collect the output; return the seconds since the start."""
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            pidfd = os.pidfd_open(self.process.pid)
            stack.callback(os.close, pidfd)
            selector.register(pidfd, selectors.EVENT_READ)
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            for pipe, kept in ((self.process.stdout, self.stdout), (self.process.stderr, None)):
                selector.register(pipe, selectors.EVENT_READ, kept)
            next_poll = self._began + _POLL_SECONDS
            while True:
                events = selector.select(max(0.0, next_poll - time.monotonic()))
                for key, _ in events:
                    if key.fd != pidfd:
                        self._read(selector, key)
                if any(key.fd == pidfd for key, _ in events):
                    break
                if self.ended == "exit" and time.monotonic() >= next_poll:
                    next_poll = time.monotonic() + _POLL_SECONDS
                    self._poll()
                if self.ended != "exit":
                    self._kill(pidfd)
                    break
            wall = time.monotonic() - self._began
            self._drain(selector, pidfd)
        return wall

    def _read(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        """Read the available data of a pipe."""
        data = os.read(key.fd, _CHUNK_BYTES)
        if not data:
            selector.unregister(key.fileobj)
            return
        self._output_bytes += len(data)
        if self._output_bytes > self.limits.output_mib << 20:
            self.ended = "output" if self.ended == "exit" else self.ended
        elif key.data is not None:
            self.stdout += data
        else:
            self.stderr += data
            del self.stderr[:-_KEPT_STDERR_BYTES]

    def _poll(self) -> None:
        """Compare the use of resources with the limits."""
        pid, limit = self.process.pid, self.limits.memory_mib << 20
        usage = tree_usage(pid)
        self.cpu_seconds = max(self.cpu_seconds, usage.cpu_seconds)
        if self.stop.is_set():
            self.ended = "stopped"
        elif usage.memory_bytes > limit and proportional_memory(pid) > limit:
            self.ended = "memory"
        elif usage.cpu_seconds > self.limits.killed_at_cpu_seconds:
            self.ended = "cpu"
        elif time.monotonic() - self._began > self.limits.wall_seconds:
            self.ended = "wall"

    def _kill(self, pidfd: int) -> None:
        """Kill the program until its launcher has ended, too.

        The launcher kills remaining processes, so it is killed itself only if it does not end.
        """
        deadline = time.monotonic() + _KILL_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                kill_descendants(self.process.pid)
                if selector.select(0.01):
                    return

    def _drain(self, selector: selectors.BaseSelector, pidfd: int) -> None:
        """Read the rest of the output; a process that outlives the sandbox may hold a pipe open."""
        selector.unregister(pidfd)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                self._read(selector, key)

    def end(self) -> None:
        """Reap the process and add up its CPU time; kills it first if it still runs."""
        # Popen.kill() would reap it and lose its CPU time.
        os.kill(self.process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_seconds = max(self.cpu_seconds, usage.ru_utime + usage.ru_stime)


def supervise(
    argv: Sequence[str],
    *,
    stdin: bytes,
    environment: Mapping[str, str],
    descriptors: Mapping[str, bytes],
    limits: Limits,
    stop: threading.Event,
) -> Execution:
    """Run a sandbox's process to its end, within limits. Blocks.

    Args:
        argv: Command line. ``{status}`` stands for the number of a descriptor to which the process
            writes a JSON object with ``exit-code`` when the program has ended, and each key of
            ``descriptors`` in braces for one to read from.
        stdin: Content of standard input.
        environment: All variables of the environment.
        descriptors: Content of further files in memory.
        limits: Limits of the run.
        stop: The run is killed if this event is set.

    Raises:
        SandboxError: The process ended and the program had not been started.
    """
    with ExitStack() as stack:

        def closed_later(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        status, written = map(closed_later, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
        numbers = {name: closed_later(memory_file(text)) for name, text in descriptors.items()}
        numbers["status"] = written
        try:
            process = subprocess.Popen(
                [_with_numbers(argument, numbers) for argument in argv],
                stdin=closed_later(memory_file(stdin)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                pass_fds=list(numbers.values()),
                start_new_session=True,  # Ctrl-C in a terminal must not reach it
            )
        except OSError as error:
            raise SandboxError(f"cannot start {argv[0]}: {error}") from error
        stack.enter_context(process.stdout)  # type: ignore[arg-type]
        stack.enter_context(process.stderr)  # type: ignore[arg-type]
        supervised = _Supervised(process, limits, stop)
        try:
            wall = supervised.wait()
        finally:
            supervised.end()
        return _outcome(supervised, wall, _exit_code(status))


def _with_numbers(argument: str, numbers: Mapping[str, int]) -> str:
    for name, number in numbers.items():
        if argument == f"{{{name}}}":
            return str(number)
    return argument


def _exit_code(status: int) -> int | None:
    """Return the exit code that the sandbox's process wrote; None without one."""
    with suppress(BlockingIOError):
        text = os.read(status, _CHUNK_BYTES).decode()
        for line in text.splitlines():
            code = json.loads(line).get("exit-code")
            if isinstance(code, int):
                return code
    return None


def _outcome(supervised: _Supervised, wall: float, code: int | None) -> Execution:
    if supervised.ended == "exit" and code is None:
        message = bytes(supervised.stderr).decode("utf-8", "replace").strip()
        raise SandboxError(
            f"the program was not started; the sandbox ended with status "
            f"{supervised.process.returncode}: {message or 'no message'}"
        )
    return Execution(
        ended=supervised.ended,
        exit_code=code if supervised.ended == "exit" else None,
        cpu_seconds=supervised.cpu_seconds,
        wall_seconds=wall,
        stdout=bytes(supervised.stdout),
        stderr=bytes(supervised.stderr),
    )
