"""Shared and exclusive runs: a time limit that is nearly met is measured without other load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tessy.evaluation.sandbox.base import Execution, Limits, Sandbox, SandboxCommand

_CHECK_SECONDS = 0.1


class StoppedError(Exception):
    """The caller stopped a program before it ended."""


class RunGate:
    """A readers-writer lock for runs, which share it or hold it alone. Thread-safe.

    Once a run waits to hold it alone, no other run begins.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._waiting_alone = 0

    @contextmanager
    def together(self, stop: threading.Event) -> Iterator[None]:
        """Share the lock, after exclusive runs. Raises StoppedError if ``stop`` is set."""
        with self._changed:
            self._wait(lambda: self._waiting_alone == 0, stop)
            self._running += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self, stop: threading.Event) -> Iterator[None]:
        """Hold the lock alone, after all other runs. Raises StoppedError if ``stop`` is set."""
        with self._changed:
            self._waiting_alone += 1
            try:
                self._wait(lambda: self._running == 0, stop)
            except StoppedError:
                self._waiting_alone -= 1
                self._changed.notify_all()
                raise
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._waiting_alone -= 1
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool], stop: threading.Event) -> None:
        while not stop.is_set():
            if self._changed.wait_for(ready, _CHECK_SECONDS):
                return
        raise StoppedError


@dataclass(frozen=True)
class GatedSandbox:
    """A sandbox with shared and exclusive runs."""

    sandbox: Sandbox
    _gate: RunGate = field(default_factory=RunGate)

    def run(
        self, command: SandboxCommand, limits: Limits, stop: threading.Event, *, alone: bool = False
    ) -> Execution:
        """Run a command side by side with others, or alone. Blocks.

        Raises:
            SandboxError: The program could not be started.
            StoppedError: ``stop`` was set.
        """
        with self._gate.alone(stop) if alone else self._gate.together(stop):
            execution = self.sandbox.run(command, limits, stop)
        if execution.ended == "stopped":
            raise StoppedError
        return execution
