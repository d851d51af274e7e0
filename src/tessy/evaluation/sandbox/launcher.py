"""Starts a program without namespaces, and waits for its end: ``launcher.py STATUS FILTER JSON``.

A script of its own, for a Python without tessy: the sandbox of
:mod:`tessy.evaluation.sandbox.landlock` runs it. STATUS is the number of the descriptor to which it
writes the exit code, FILTER that of a filter of system calls (``-``: none), and JSON an object with
the fields of :class:`Specification`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
# The numbers are the same on all processors.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1, 2
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14  # and truncate


class Specification(NamedTuple):
    """What to start.

    Attributes:
        argv: Command line of the program.
        folder: Its current folder.
        environment: Its environment.
        rlimits: Its limits; names as in the module ``resource``, in lower case.
        uid: User that it runs as; None: the user of this process.
        landlock: Whether to restrict files; readable and writable paths matter with it only.
        readable: Files and folders that it can read and execute.
        writable: Files and folders that it can write as well.
    """

    argv: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    rlimits: Mapping[str, int]
    uid: int | None
    landlock: bool
    readable: Sequence[str]
    writable: Sequence[str]


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def landlock_version() -> int:
    """Return the version of Landlock's interface; 0 if the kernel has none or it is disabled."""
    version: int = _libc().syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    return max(0, version)


def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: int, address: object = 0) -> None:
    _check(_libc().prctl(option, value, address, 0, 0), f"prctl {option}")


def _restrict_files(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Deny all other files, TCP, abstract sockets, and signals to processes outside."""
    version = landlock_version()
    rights = (1 << 13) - 1
    for since, right in ((2, 13), (3, 14), (5, 15)):  # refer, truncate, ioctl of devices
        rights |= 1 << right if version >= since else 0
    rules = _Ruleset(
        handled_access_fs=rights,
        handled_access_net=3 if version >= 4 else 0,
        scoped=_SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if version >= 6 else 0,
    )
    # A kernel accepts the fields of its version only.
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    call = _libc().syscall
    ruleset = _check(
        call(_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0), "landlock"
    )
    read = _EXECUTE | _READ_FILE | _READ_DIR
    for path, allowed in [(p, read) for p in readable] + [(p, rights) for p in writable]:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        mask = rights if os.path.isdir(path) else rights & _FILE_RIGHTS
        rule = _PathBeneath(allowed & mask, opened)
        added = call(
            _LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0
        )
        _check(added, f"landlock, {path}")
        os.close(opened)
    _check(call(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def _filter_calls(descriptor: int) -> None:
    with open(descriptor, "rb") as file:
        program = file.read()
    instructions = ctypes.create_string_buffer(program, len(program))
    program_filter = _Filter(len(program) // 8, ctypes.addressof(instructions))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program_filter))


def _threads_of_user() -> int:
    """Return the number of this user's threads, which the limit of processes counts too."""
    count = 0
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _become(specification: Specification, seccomp: int | None) -> NoReturn:
    """Turn this process into the program."""
    if specification.uid is not None:
        os.setgroups([])
        os.setresgid(specification.uid, specification.uid, specification.uid)
        os.setresuid(specification.uid, specification.uid, specification.uid)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(specification.folder)
    others = _threads_of_user() if specification.uid is None else 0
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if specification.landlock:
        _restrict_files(specification.readable, specification.writable)
    if seccomp is not None:
        _filter_calls(seccomp)
    for name, value in specification.rlimits.items():
        limit = value + others if name == "nproc" else value
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (limit, limit))
    os.execve(specification.argv[0], [*specification.argv], specification.environment)


def _kill_rest(uid: int | None) -> None:
    """Kill and reap the processes that the program left; they are children of this process."""
    me = os.getpid()
    with suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            if uid is not None:
                _kill_all_of(uid)
            with open(f"/proc/{me}/task/{me}/children") as file:
                for child in map(int, file.read().split()):
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _kill_all_of(uid: int) -> None:
    """Kill all processes of a user at the same time, so that none can fork meanwhile."""
    killer = os.fork()
    if killer == 0:
        with suppress(OSError):
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(killer, 0)


def main(status: int, seccomp: int | None, specification: Specification) -> None:
    """Run the program to its end, and write its exit code."""
    os.set_inheritable(status, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def abandon(*_: object) -> NoReturn:
        _kill_rest(specification.uid)
        os._exit(1)

    signal.signal(signal.SIGTERM, abandon)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    started, failed = os.pipe()  # both are closed by execve
    child = os.fork()
    if child == 0:
        try:
            _become(specification, seccomp)
        except BaseException as error:
            os.write(failed, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
    os.close(failed)
    message = os.read(started, 4096)
    if message:
        sys.exit(message.decode("utf-8", "replace"))
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    _, ended = os.waitpid(child, 0)
    _kill_rest(specification.uid)
    code = os.WTERMSIG(ended) + 128 if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)
    os.write(status, json.dumps({"exit-code": code}).encode())


if __name__ == "__main__":
    filter_number = None if sys.argv[2] == "-" else int(sys.argv[2])
    main(int(sys.argv[1]), filter_number, Specification(**json.loads(sys.argv[3])))
