"""This process among those that `torchrun` or `accelerate launch` started."""

from __future__ import annotations

import os

from tessy.core.errors import DeviceMemoryError, InputError

# RANK and WORLD_SIZE are set by torchrun and accelerate launch.


def is_first_process() -> bool:
    """Return whether this process prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def reports(error: InputError) -> bool:
    """Return whether this process prints an error: the first, or the only one that raises it."""
    return is_first_process() or isinstance(error, DeviceMemoryError)


def process_count() -> int:
    """Return the number of processes; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
