"""Signals of a benchmark: all its processes end, and measurements are written."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Generator
from multiprocessing import resource_tracker
from types import FrameType


def command(main: Callable[[], None]) -> None:
    """Run ``main`` as a command: Ctrl-C and SIGTERM end it gracefully, with status 130 or 143."""
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except KeyboardInterrupt:
        print("stopped; the --json file holds the finished measurements", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def ignoring_interrupts() -> Generator[None, None, None]:
    """Processes started in this context ignore Ctrl-C; their parent ends them."""
    # Otherwise it starts with the first process, which unblocks signals.
    resource_tracker.ensure_running()
    received: list[int] = []  # by other threads: the mask is of this thread and its children
    handler = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if received:
        signal.raise_signal(signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
