"""The Python that runs programs, and the folders that a sandbox must make readable."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tessy.core.errors import ConfigError

# The interpreter of this process may lie in a folder that other users cannot enter.
_USUAL = (Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))
_PROBE = """
import json, platform, sys
print(json.dumps([platform.python_version(), sys.prefix, sys.base_prefix, sys.executable]))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python interpreter.

    Attributes:
        path: The executable.
        version: Version, such as ``3.11.2``.
        folders: Folders of its installation outside of ``/usr``.
    """

    path: Path
    version: str
    folders: Sequence[Path]


def find_interpreter(path: Path | None = None) -> Interpreter:
    """Return the Python at ``path``; None: that of the system.

    Raises:
        ConfigError: There is none, or it does not run.
    """
    found = path or next((one for one in _USUAL if one.exists()), None)
    if found is None:
        raise ConfigError(
            "programs are judged with the system's Python, and there is neither "
            f"{' nor '.join(map(str, _USUAL))}; install it (Debian: `apt-get install python3`)"
        )
    try:
        ran = subprocess.run(
            [found, "-I", "-c", _PROBE], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{found} is not a working Python: {error}; reinstall it") from error
    version, *folders, executable = json.loads(ran.stdout)
    folders = sorted({Path(folder) for folder in folders})
    outside = [folder for folder in folders if not folder.is_relative_to("/usr")]
    return Interpreter(Path(executable), version, outside)
