"""Programs and checkers in C++; sources are untrusted, so the compiler runs in the sandbox."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from tessy.core.errors import ConfigError, InputError
from tessy.evaluation.programs.gate import GatedSandbox
from tessy.evaluation.sandbox.base import Execution, Limits, SandboxCommand, SandboxError
from tessy.storage.atomic import new_file

_FLAGS = "-O2 -pipe -std=gnu++17"
# The executable is read from standard output, so the sandbox needs no writable host folder.
_COMPILE = f'g++ {_FLAGS} -o "$TMPDIR/program" main.cpp && cat "$TMPDIR/program"'
COMPILE_LIMITS: Final = Limits(
    cpu_seconds=30, memory_mib=2048, address_space_mib=4096, disk_mib=512
)
_INCLUDES_TESTLIB = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*["<]testlib\.h[">]', re.MULTILINE)


class CompileError(Exception):
    """A source that does not compile; the message is the compiler's."""


@dataclass
class Compiler:
    """Compiles programs and checkers. Thread-safe.

    Attributes:
        sandbox: Sandbox of the compiler.
        folder: Cache of compiled checkers.
        testlib: Path of testlib.h, which checkers include.
        limits: Limits of the compiler.
    """

    sandbox: GatedSandbox
    folder: Path
    testlib: Path
    limits: Limits = COMPILE_LIMITS
    _locks: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )

    def program(self, code: str, box: Path, stop: threading.Event) -> bytes:
        """Return the executable of a program.

        Args:
            code: The program.
            box: Empty folder, for the sandbox to read.
            stop: Stops the compiler if set.

        Raises:
            CompileError: It does not compile, or not within the limits.
            SandboxError: The sandbox failed.
            StoppedError: ``stop`` was set.
        """
        return self._compile(code.encode("utf-8", "replace"), box, stop)

    def checker(self, source: Path, box: Path, stop: threading.Event) -> Path:
        """Return the executable of a checker.

        Raises:
            InputError: The checker cannot be read, or testlib.h is missing.
            SandboxError: It does not compile, or the sandbox failed.
            StoppedError: ``stop`` was set.
        """
        try:
            code = source.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the checker {source}: {error.strerror}") from error
        header = read_testlib(self.testlib) if _INCLUDES_TESTLIB.search(code) else b""
        parts = [code, header, compiler_version().encode(), _COMPILE.encode()]
        key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
        compiled = self.folder / key
        with self._locks[key]:
            if not compiled.exists():
                (box / "testlib.h").write_bytes(header)
                try:
                    program = self._compile(code, box, stop)
                except CompileError as error:
                    raise SandboxError(f"the checker {source} does not compile: {error}") from error
                with new_file(compiled) as partial:
                    partial.write_bytes(program)
        return compiled

    def _compile(self, code: bytes, box: Path, stop: threading.Event) -> bytes:
        compiler_version()
        (box / "main.cpp").write_bytes(code)
        command = SandboxCommand(["/bin/sh", "-c", _COMPILE], box, writes_files=True)
        execution = self.sandbox.run(command, self.limits, stop)
        if not execution.succeeded:
            raise CompileError(_reason(execution))
        return execution.stdout


def _reason(execution: Execution) -> str:
    """Return the first error of the compiler."""
    if execution.ended != "exit":
        return f"the compiler exceeded its limit of {execution.ended}"
    lines = execution.stderr.decode("utf-8", "replace").splitlines()
    errors = [line for line in lines if "error:" in line]
    return (errors or lines or [f"exit status {execution.exit_code}"])[0].strip()


@cache
def compiler_version() -> str:
    """Return the version of g++.

    Raises:
        ConfigError: It is not installed.
    """
    if not shutil.which("g++"):
        raise ConfigError("programs in C++ need g++ (Debian: `apt-get install g++`)")
    shown = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def read_testlib(path: Path) -> bytes:
    """Return the header that checkers include.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"checkers need testlib.h, and {path} cannot be read: run "
            "scripts/fetch-testlib, or set TESSY_TESTLIB to the path of the file"
        ) from error


def cache_folder() -> Path:
    """Return the user's folder for cached files."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tessy"


def default_testlib() -> Path:
    """Return the path of testlib.h: ``$TESSY_TESTLIB``, or where scripts/fetch-testlib puts it."""
    path = os.environ.get("TESSY_TESTLIB")
    return Path(path) if path else cache_folder() / "testlib.h"


def cpp_limits(seconds: float, memory_mib: int) -> Limits:
    """Return the limits of a program in C++.

    The memory limit is one of resident memory, because unused parts of large arrays do not count
    for the official judges. The address space is limited because resident memory is only polled.
    """
    return Limits(seconds, memory_mib, 2 * memory_mib + 256, stack_mib=memory_mib)
