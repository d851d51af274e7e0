"""How a benchmark and the processes it starts end: all of them, with what was measured on disk."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Generator
from types import FrameType


def command(main: Callable[[], None]) -> None:
    """Run ``main`` as a command: Ctrl-C and SIGTERM end it in good order, with code 130 or 143."""
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except KeyboardInterrupt:
        print("stopped; the file that was asked for holds what was whole", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def deaf_to_interrupts() -> Generator[None, None, None]:
    """Processes started meanwhile do not hear Ctrl-C: whoever started them ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
