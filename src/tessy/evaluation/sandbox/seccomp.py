"""A filter of system calls: no sockets, no debugging, no mounts, no namespaces.

A second line of defence of :mod:`~tessy.evaluation.sandbox.bubblewrap`, and the only one against
sockets of :mod:`~tessy.evaluation.sandbox.landlock`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping

_REFUSED = """
    socket socketcall connect bind listen
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    mount umount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick
    mount_setattr unshare setns
    keyctl add_key request_key
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
    init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
    acct quotactl settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname
    name_to_handle_at open_by_handle_at memfd_create memfd_secret fanotify_init
    shmget shmat shmctl semget semop semctl msgget msgsnd msgrcv msgctl mq_open
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat
    utime utimes utimensat futimesat
    sched_setscheduler sched_setattr setpriority ioprio_set
"""
# Calls since Linux 5.1, whose names old versions of libseccomp lack. Their numbers are the same on
# all processors.
_NUMBERS = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "memfd_secret": 447,
    "fchmodat2": 452,
}
_UNKNOWN = -1  # libseccomp's number for an unknown name
_NAMESPACE_FLAGS = (
    0x00020000,  # CLONE_NEWNS
    0x02000000,  # CLONE_NEWCGROUP
    0x04000000,  # CLONE_NEWUTS
    0x08000000,  # CLONE_NEWIPC
    0x10000000,  # CLONE_NEWUSER
    0x20000000,  # CLONE_NEWPID
    0x40000000,  # CLONE_NEWNET
)


class NoFilterError(Exception):
    """The filter cannot be built."""


class OldSeccompError(NoFilterError):
    """libseccomp is installed, but too old for the filter."""


def build_filter() -> bytes:
    """Return the filter as a BPF program; it refuses every call of the list above.

    Raises:
        NoFilterError: pyseccomp or libseccomp is not installed.
        OldSeccompError: libseccomp lacks a call.
    """
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise NoFilterError(
            "pyseccomp or libseccomp is missing (`pip install 'tessy[sandbox]'`, "
            f"`apt-get install libseccomp2`): {error}"
        ) from error
    refuse = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    numbers = _numbers(lambda name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))
    for name in _REFUSED.split():
        rules.add_rule(refuse, numbers[name])  # no effect for one that this processor does not have
    # A filter cannot read the flags of clone3 in memory; after ENOSYS the C library calls clone.
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), numbers["clone3"])
    for flag in _NAMESPACE_FLAGS:
        masked = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag)
        rules.add_rule(refuse, numbers["clone"], masked)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return file.read()


def _numbers(resolve: Callable[[str], int]) -> Mapping[str, int]:
    """Return the numbers of all calls of the filter.

    Raises OldSeccompError, which names the unknown calls.
    """
    numbers = {}
    for name in (*_REFUSED.split(), "clone", "clone3"):
        number = resolve(name)
        numbers[name] = _NUMBERS.get(name, _UNKNOWN) if number == _UNKNOWN else number
    if unknown := [name for name, number in numbers.items() if number == _UNKNOWN]:
        raise OldSeccompError(
            f"this version of libseccomp does not know {', '.join(unknown)}; install a newer one "
            "(`apt-get install libseccomp2`)"
        )
    return numbers
