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
        print("stopped; the file that was asked for holds what was whole", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def ignoring_interrupts() -> Generator[None, None, None]:
    """Processes started in this context ignore Ctrl-C; their parent ends them."""
    resource_tracker.ensure_running()  # else starting the first process would let signals through
    heard: list[int] = []  # by another thread: the mask is this one's, and of what it starts
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if heard:
        signal.raise_signal(signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
