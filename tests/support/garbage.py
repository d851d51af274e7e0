"""What is freed at once, without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def no_collector(*kinds: type) -> Iterator[Callable[[], list[object]]]:
    """Keep it off; what is given says which things of these kinds are new, and alive."""

    def alive() -> list[object]:
        return [thing for thing in gc.get_objects() if type(thing) in kinds]

    gc.collect()
    gc.disable()
    earlier = alive()  # other tests may have left some; held, so that no new one is taken for them
    try:
        yield lambda: [thing for thing in alive() if not any(thing is old for old in earlier)]
    finally:
        gc.enable()
