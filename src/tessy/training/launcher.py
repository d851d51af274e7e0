"""What started this process: torchrun, accelerate launch, or neither."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tessy.core.errors import ConfigError

_REQUESTED = re.compile(r"--(?:num[_-]processes|nproc[_-]per[_-]node)[=\0](\d+)\0")


def is_sharded() -> bool:
    """Return whether FSDP or DeepSpeed shares the model between processes."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name, "false").lower() == "true" for name in names)


def check_processes() -> None:
    """Refuse to run as one process where a launcher was asked for several.

    ``accelerate launch --cpu --num_processes 2`` starts one, without a word.
    """
    requested = requested_processes(_parent_command())
    if requested > 1 and "WORLD_SIZE" not in os.environ:
        raise ConfigError(
            f"the launcher was asked for {requested} processes but started one; use `torchrun "
            f"--standalone --nproc_per_node {requested} -m tessy sft …`, or add --multi_gpu to "
            "`accelerate launch` (also without a GPU)"
        )


def requested_processes(command: str) -> int:
    """Return the number of processes in a launcher's command line, of arguments that end in NUL.

    1 if it is no launcher's, or names no number.
    """
    found = _REQUESTED.search(command)
    return int(found[1]) if found and re.search("accelerate|torchrun", command) else 1


def _parent_command() -> str:
    """Return the command line of the parent process, empty where the system does not show it."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text("utf-8", "replace")
    except OSError:
        return ""
