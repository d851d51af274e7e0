"""Checks that objects are freed without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def no_collector(*kinds: type) -> Iterator[Callable[[], list[object]]]:
    """Disable the collector; yield a function that returns new live objects of these types."""

    def alive() -> list[object]:
        return [item for item in gc.get_objects() if type(item) in kinds]

    gc.collect()
    gc.disable()
    earlier = alive()  # left by other tests
    try:
        yield lambda: [item for item in alive() if not any(item is old for old in earlier)]
    finally:
        gc.enable()
