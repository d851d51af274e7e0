"""User, folders and variables of a program, the same in every sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

UNPRIVILEGED_USER = 65534

# Readable besides /usr; on most systems they are links into it.
SYSTEM_FOLDERS = tuple(map(Path, ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))


def program_environment(temporary: str) -> Mapping[str, str]:
    """Return the variables of a program's environment; its temporary folder is also its home."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": temporary,
        "TMPDIR": temporary,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # reproducible verdicts
        # A thread for each core would count against the limits of processes and memory.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
