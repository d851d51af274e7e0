"""When a thinking has begun to repeat itself (pure)."""

from __future__ import annotations

from tessy.errors import SampleFailed
from tessy.text import LOOP_WINDOW_CHARS, find_loop

MAX_BLANK_CHARS = 400  # a draft of nothing but white space longer than this is a loop
_STEP_CHARS = 100


class LoopWatch:
    """Looks at a growing text now and then.

    Attributes:
        checked: Characters there were at the last look.
    """

    def __init__(self, checked: int = 0) -> None:
        """Look once the text is well longer than ``checked``."""
        self.checked = checked

    def look(self, kept: str, drafted: str) -> None:
        """Look at a text of two parts.

        Raises:
            SampleFailed: ``repetition``.
        """
        if len(drafted) > MAX_BLANK_CHARS and drafted.isspace():
            raise SampleFailed("repetition", f"{len(drafted)} characters of white space")
        length = len(kept) + len(drafted)
        if length - self.checked < _STEP_CHARS:
            return
        self.checked = length
        loop = find_loop(kept[-LOOP_WINDOW_CHARS:] + drafted)
        if loop is not None:
            raise SampleFailed("repetition", f"the thinking repeats {loop[:100]!r}")
