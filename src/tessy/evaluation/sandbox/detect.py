"""Choice of the sandbox: the best one whose canaries pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tessy.core.errors import ConfigError
from tessy.evaluation.sandbox.base import Sandbox, SandboxError
from tessy.evaluation.sandbox.bubblewrap import Bubblewrap
from tessy.evaluation.sandbox.canary import PROTECTION, run_canaries
from tessy.evaluation.sandbox.interpreter import Interpreter, find_interpreter
from tessy.evaluation.sandbox.landlock import Landlock
from tessy.evaluation.sandbox.seccomp import (
    NoFilterError,
    OldSeccompError,
    build_filter,
)

_UNSAFE = "or pass --allow-unsafe-judging, which lets programs read and change your user's files"

log = logging.getLogger(__name__)

Backend = Callable[[], Sandbox]


@dataclass(frozen=True, slots=True)
class OpenedSandbox:
    """A sandbox that works.

    Attributes:
        sandbox: The sandbox.
        interpreter: The Python of programs.
        canaries: Which checks passed, by name.
    """

    sandbox: Sandbox
    interpreter: Interpreter
    canaries: Mapping[str, bool]

    def to_json(self) -> Mapping[str, object]:
        """Return the description that results record."""
        return {
            "sandbox": self.sandbox.name,
            "gaps": list(self.sandbox.gaps),
            "python": f"{self.interpreter.version} ({self.interpreter.path})",
            "canaries": dict(self.canaries),
        }


def open_sandbox(*, allow_unsafe: bool, python: Path | None = None) -> OpenedSandbox:
    """Return the best sandbox of this machine. Blocks for about a second.

    Args:
        allow_unsafe: Whether to run programs without protection if no sandbox works.
        python: The Python of programs; None: that of the system.

    Raises:
        ConfigError: No sandbox works. The message states why, and what to install.
    """
    interpreter = find_interpreter(python)
    reasons = []
    for title, backend in _backends(interpreter):
        try:
            return _checked(backend(), interpreter, protects=True)
        except SandboxError as error:
            reasons.append(f"  {title}: {error}")
    if allow_unsafe:
        try:
            return _checked(unprotected(interpreter), interpreter, protects=False)
        except SandboxError as error:
            reasons.append(f"  without protection: {error}")
    raise ConfigError(
        "programs of a model are run in a sandbox only, and none works on this machine:\n"
        + "\n".join(reasons)
        + "\nInstall bubblewrap (Debian: `apt-get install bubblewrap`)"
        + ("" if allow_unsafe else f"; {_UNSAFE}")
    )


def sandbox_filter() -> bytes | None:
    """Return the filter of system calls; None if it cannot be built here.

    Logs a warning if libseccomp is installed, but too old.
    """
    try:
        return build_filter()
    except OldSeccompError as error:
        log.warning("the sandbox has no filter of system calls: %s", error)
    except NoFilterError:
        pass
    return None


def unprotected(interpreter: Interpreter) -> Sandbox:
    """Return a sandbox of limits and, if available, the filter of system calls only."""
    return Landlock(interpreter, sandbox_filter(), restrict_files=False)


def _backends(interpreter: Interpreter) -> Iterator[tuple[str, Backend]]:
    """Yield the sandboxes, the best one first."""
    yield "bubblewrap", lambda: Bubblewrap(interpreter, sandbox_filter())

    def landlock() -> Sandbox:
        try:
            return Landlock(interpreter, build_filter())
        except NoFilterError as error:
            raise SandboxError(str(error)) from error

    yield "landlock", landlock


def _checked(sandbox: Sandbox, interpreter: Interpreter, *, protects: bool) -> OpenedSandbox:
    canaries = run_canaries(sandbox, interpreter)
    failed = [
        name
        for name, passed in canaries.items()
        if not passed and (protects or name not in PROTECTION)
    ]
    if failed:
        raise SandboxError(f"{sandbox.name} starts, but these checks fail: {', '.join(failed)}")
    return OpenedSandbox(sandbox, interpreter, canaries)
