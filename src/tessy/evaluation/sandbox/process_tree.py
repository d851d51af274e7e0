"""The processes below another one, from ``/proc``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# A process or a thread may end between two reads of its files.
_ENDED = (FileNotFoundError, ProcessLookupError)


class TreeUsage(NamedTuple):
    """CPU time of all processes of a tree that run or were waited for, and resident memory."""

    cpu_seconds: float
    memory_bytes: int


def descendants(pid: int) -> Iterator[int]:
    """Yield the ids of the processes below a process, parents first."""
    with suppress(*_ENDED):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(*_ENDED), open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in map(int, file.read().split()):
                    yield child
                    yield from descendants(child)


def tree_usage(pid: int) -> TreeUsage:
    """Return what the processes below a process use."""
    seconds, memory = 0.0, 0
    for one in descendants(pid):
        with suppress(*_ENDED), open(f"/proc/{one}/stat") as file:
            # After the name, which can contain spaces: utime, stime, cutime, cstime … rss.
            fields = file.read().rpartition(")")[2].split()
            seconds += sum(map(int, fields[11:15])) / _TICKS_PER_SECOND
            memory += int(fields[21]) * _PAGE_BYTES
    return TreeUsage(seconds, memory)


def proportional_memory(pid: int) -> int:
    """Return the resident bytes of the processes below a process; shared pages count once.

    More expensive than the sum of :func:`tree_usage`, in which every process counts shared pages.
    """
    total = 0
    for one in descendants(pid):
        with suppress(*_ENDED), open(f"/proc/{one}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total << 10


def kill_descendants(pid: int) -> None:
    """Kill the processes below a process, as far as they are found."""
    for one in list(descendants(pid)):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
